"""What to write instead: the rule in words and a hint for each kind of error and the value that was met."""

import math
from typing import Any

from pydantic.fields import FieldInfo

from t2tbuild.spec import size
from t2tbuild.spec.base import Node
from t2tbuild.spec.partial import MAX_COMPARED, nearest, node_for, nodes_in
from t2tbuild.spec.scalars import meant_bool, meant_number, odd_character
from t2tbuild.spec.units import parse_count
from t2tbuild.spec.yaml_source import Keys, dotted
from t2tbuild.spec.yaml_syntax import missing_space

RULES = {
    "int_type": "type",
    "int_from_float": "type",
    "float_type": "type",
    "bool_type": "type",
    "scalar_type": "type",
    "string_type": "type",
    "model_type": "type",
    "model_attributes_type": "type",
    "dict_type": "type",
    "tuple_type": "type",
    "finite_number": "finite",
    "greater_than": "range",
    "greater_than_equal": "range",
    "less_than": "range",
    "less_than_equal": "range",
    "literal_error": "choice",
    "union_tag_invalid": "kind",
    "string_pattern_mismatch": "name",
    "string_too_short": "length",
    "too_short": "length",
    "too_long": "length",
}
"""The rule's name for machines, by pydantic's type of error."""

_WORDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "scalar_type": "must be a number, text, true or false",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' and '-', at most 64",
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must list at least {min_length}",
    "too_long": "must list at most {max_length}",
}


def rule_in_words(kind: str, context: dict[str, Any], value: object) -> str:
    """The rule that is broken, without the value; empty where pydantic's own words must do."""
    if kind in ("literal_error", "union_tag_invalid"):
        known = choices(context, value)
        return f"must be {known[0]!r}" if len(known) == 1 else f"must be one of {', '.join(map(repr, known))}"
    words = _WORDS.get(kind, "")
    if kind in ("int_type", "float_type") and isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    return words.format(**context)


def for_value(kind: str, value: object, context: dict[str, Any], field: FieldInfo | None) -> str:
    """What to write instead of `value`."""
    example = _example(field)
    if isinstance(value, str) and (hint := _for_text(value)):
        return hint
    match kind:
        case "literal_error" | "union_tag_invalid":
            near = nearest(value, choices(context, value))
            return f"did you mean {near!r}?" if near else ""
        case "int_type" | "int_from_float" | "float_type" | "finite_number":
            return _for_number(value, whole=kind.startswith("int")) or example
        case "bool_type":
            return meant_bool(value)
        case "string_type":
            return (
                "write a name"
                if value is None or isinstance(value, dict | list)
                else f"put it in quotes: '{_yaml(value)}'"
            )
        case "model_type" | "model_attributes_type" | "dict_type":
            return _for_mapping(value, field)
        case "tuple_type":
            return "put '- ' before each item" if isinstance(value, dict) else example
        case "greater_than_equal" | "less_than_equal":
            return (
                f"write at {'least' if kind.startswith('greater') else 'most'} {context.get('ge', context.get('le'))}"
            )
        case _:
            return example


def for_unknown_key(key: object, value: object, inside: Keys, root: type[Node], data: Any) -> str:
    """What to write instead of a key that is not known where it stands."""
    if isinstance(key, str) and value is None and missing_space(key):
        return f"write {key.split(':')[0]}: and a space"
    if isinstance(key, str) and (odd := odd_character(key[:MAX_COMPARED])):
        return odd
    known = [field for node in _nodes_at(inside, root, data) for field in node.model_fields]
    if near := nearest(key, known):
        return f"did you mean {near!r}?"
    homes = [home for home in _homes(str(key), root, ()) if home != dotted(inside)]
    if homes:
        return f"it belongs in {homes[0]}"
    kinds = [node.model_fields["kind"].default for node in _kindred(inside, root, data) if key in node.model_fields]
    if kinds:
        return f"it is a field of kind: {kinds[0]}"
    return f"known: {', '.join(dict.fromkeys(known))}"


def for_missing_key(key: str, inside: Keys, root: type[Node], data: Any) -> str:
    """What to write for a key that is missing."""
    for node in _nodes_at(inside, root, data):
        field = node.model_fields.get(key)
        if field and field.examples:
            return f"write {key}: {_yaml(field.examples[0])}"
        if field and nodes_in(field.annotation):
            return f"write {key}: and its fields beneath; t2tbuild init writes a whole spec"
    return f"write {key}: 1" if key == "version" else ""


def for_size(path: Keys, value: object, data: Any) -> str:
    """What a depth or a width beyond its range would come to, beside the other fields as they stand."""
    above = data
    for part in path[:-1]:
        above = above[part]
    if not isinstance(above, dict) or not isinstance(value, int | float) or path[-1] not in ("depth", "embed_dim"):
        return ""
    fields = {"depth": 12, "embed_dim": 384, "mlp_ratio": 4} | {
        key: given for key, given in above.items() if type(given) in (int, float) and 0 < given < 10**12
    }
    fields[str(path[-1])] = min(float(value), 1e30)
    params = fields["depth"] * size.block_params(fields["embed_dim"], fields["mlp_ratio"])
    return f"it would have {size.told(params)}" if params > size.MOST_PARAMS else ""


def shown(value: object) -> str:
    """A value as a person wrote it, cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}"
    text = repr(value) if isinstance(value, str) else _yaml(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def field_at(path: Keys, root: type[Node], data: Any) -> FieldInfo | None:
    """The field of the spec that stands at a path of the data."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return None
    return next(
        (node.model_fields[path[-1]] for node in _nodes_at(path[:-1], root, data) if path[-1] in node.model_fields),
        None,
    )


def _for_text(value: str) -> str:
    """A hint that a text's look gives away, whatever is wanted there."""
    if len(value) > 2 * MAX_COMPARED:
        return ""
    if odd := odd_character(value):
        return odd
    if "${" in value or value.startswith("$"):
        return "nothing is filled in here; write the value itself, or give it on the command line as key=value"
    if found := missing_space(value):
        return f"write {found[1]} and a space"
    return ""


def _for_number(value: object, whole: bool) -> str:
    if isinstance(value, str):
        if hint := meant_number(value):
            return hint
        try:
            return f"write {parse_count(value)}"
        except ValueError:
            return ""
    if whole and isinstance(value, float) and math.isfinite(value):
        low, high = math.floor(value), math.ceil(value)
        return f"write {low}" if low == high else f"write {low} or {high}"
    if isinstance(value, dict) and list(value.values()) == [None]:
        return "braces make a mapping; write the value without them"
    return ""


def _for_mapping(value: object, field: FieldInfo | None) -> str:
    if isinstance(value, list):
        return "write its fields without '- '"
    if value is None:
        return "write its fields beneath, indented"
    optional = field is not None and not field.is_required()
    if optional and (value is True or value == "true"):
        return "write {} for its defaults"
    if optional and (value is False or value == "false"):
        return "remove it"
    nodes = nodes_in(field.annotation) if field else []
    kinds = [str(node.model_fields["kind"].default) for node in nodes if "kind" in node.model_fields]
    if near := nearest(value, kinds):
        return f"write kind: {near} and its other fields beneath"
    return "write its fields beneath, indented"


def choices(context: dict[str, Any], value: object) -> list[str]:
    """The choices of a field, those that look like the value first."""
    listed = str(context.get("expected", context.get("expected_tags", "")))
    known = [choice.strip(" '") for choice in listed.replace(" or ", ", ").split(",")]
    near = nearest(value, known)
    return sorted(known, key=lambda choice: choice != near)


def _example(field: FieldInfo | None) -> str:
    if field is None:
        return ""
    if field.examples:
        return f"write for example {_yaml(field.examples[0])}"
    default = field.default
    return (
        ""
        if field.is_required() or default is None or isinstance(default, Node)
        else f"write for example {_yaml(default)}"
    )


def _yaml(value: object) -> str:
    """A value as YAML writes it, on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case list() | tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)


def _nodes_at(path: Keys, root: type[Node], data: Any) -> list[type[Node]]:
    """The node that stands at a path of the data; several where its kind is not known."""
    nodes = [root]
    below: Any = data
    for part in path:
        below = below[part] if isinstance(below, dict | list) else None  # type: ignore[index]
        fields = [node.model_fields[part] for node in nodes if part in node.model_fields]
        if fields:  # else the index of a list or the key of a mapping
            nodes = [node for field in fields for node in nodes_in(field.annotation)]
        if isinstance(below, dict) and nodes:
            chosen = node_for(nodes, below)
            nodes = [chosen] if chosen else nodes
    return nodes


def _kindred(path: Keys, root: type[Node], data: Any) -> list[type[Node]]:
    """All nodes of other kinds that could stand at a path."""
    if not path:
        return []
    return [
        node
        for parent in _nodes_at(path[:-1], root, data)
        if path[-1] in parent.model_fields
        for node in nodes_in(parent.model_fields[path[-1]].annotation)
        if "kind" in node.model_fields
    ]


def _homes(key: str, node: type[Node], path: Keys) -> list[str]:
    """Where in the tree a field of this name stands, lists left out."""
    found = [dotted(path)] if key in node.model_fields and path else []
    for name, field in node.model_fields.items():
        if "tuple" in str(field.annotation):
            continue
        for below in nodes_in(field.annotation):
            found += _homes(key, below, (*path, name))
    return list(dict.fromkeys(found))
