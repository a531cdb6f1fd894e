"""Messages and hints: the violated rule in words, and what to write instead of an invalid value or key."""

import math
import re
from typing import Any, get_args

from pydantic.fields import FieldInfo

from t2tbuild.spec import limits
from t2tbuild.spec.base import VERSIONS, Node, unit
from t2tbuild.spec.data import AUGMENT_PATTERN, DATA_PATTERN
from t2tbuild.spec.diagnostics.introspect import (
    MAX_COMPARED,
    closest_match,
    find_field,
    kind_with_key,
    kinds_of,
    nodes_at,
    nodes_in,
    possible_nodes,
    value_at,
)
from t2tbuild.spec.diagnostics.pydantic_errors import choices
from t2tbuild.spec.diagnostics.scalars import find_lookalike, suggest_bool, suggest_number, to_yaml
from t2tbuild.spec.diagnostics.yaml_source import KeyPath, format_path
from t2tbuild.spec.diagnostics.yaml_syntax import missing_space
from t2tbuild.spec.distill import TIMM_TEACHER
from t2tbuild.spec.model import NAME_PATTERN
from t2tbuild.spec.search import EVALUATOR_PATTERN
from t2tbuild.spec.units import parse_count

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
"""Names of rules by pydantic's error type."""

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
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must list at least {min_length}",
    "too_long": "must list at most {max_length}",
}


_PATTERNS = {
    EVALUATOR_PATTERN: "must be a module and one of its functions, as module:function",
    NAME_PATTERN: "must be letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
    AUGMENT_PATTERN: "must begin with rand, augmix, original, originalr, v0, v0r or 3a, and continue as timm writes it",
    DATA_PATTERN: "must begin with hfds/, hfids/, tfds/, wds/ or torch/, as in timm",
}

_CHOICE_ALIASES = {"fp16": "float16", "fp32": "float32", "amp": "auto"}
"""Other names of choices."""

_KEY_ALIASES = {
    "learning_rate": "lr",
    "opt": "optimizer",
    "wd": "weight_decay",
    "smoothing": "label_smoothing",
    "amp": "precision",
    "aa": "auto_augment",
    "reprob": "random_erasing",
    "remode": "erasing_mode",
}
"""Other names of keys, most of them timm's."""

NULL_WORDS = ("none", "None", "off")
"""Texts that are often written for null."""


def rule_in_words(kind: str, context: dict[str, Any], value: object) -> str:
    """Return the violated rule in words, without the value; empty if pydantic's message must serve."""
    if kind in ("literal_error", "union_tag_invalid"):
        known = choices(context, value)
        return f"must be {known[0]!r}" if len(known) == 1 else f"must be one of {', '.join(map(repr, known))}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], "")
    return _WORDS.get(kind, "").format(**context)


def for_value(kind: str, value: object, context: dict[str, Any], field: FieldInfo | None, path: KeyPath) -> str:
    """Return what to write instead of `value`."""
    example = _example(field, path)
    if context.get("pattern") == EVALUATOR_PATTERN:  # before a hint that its colon needs a space
        return _for_evaluator(value) or example
    if isinstance(value, str) and (hint := _for_text(value)):
        return hint
    zero = kind == "greater_than" and value == 0
    if field and _may_be_null(field) and (zero or value is False or (isinstance(value, str) and value in NULL_WORDS)):
        return "write null for none"
    match kind:
        case "literal_error" | "union_tag_invalid":
            at_kind = path[-1:] == ("kind",)
            word = value[0] if at_kind and isinstance(value, list) and len(value) == 1 else value
            near = closest_match(
                _CHOICE_ALIASES.get(word, word) if isinstance(word, str) else word, choices(context, value)
            )
            return f"did you mean {near!r}?" if near else "" if at_kind or isinstance(value, str) else example
        case "int_type" | "int_from_float" | "float_type" | "finite_number":
            return _for_number(value, field, whole=kind.startswith("int")) or example
        case "version":
            known = "; ".join(f"version {version} is {what}" for version, what in VERSIONS.items())
            meant = _for_number(value, field, whole=True) if value in (*VERSIONS, *map(str, VERSIONS)) else ""
            return meant or f"{known}, and a later one needs a later t2tbuild"
        case "bool_type":
            return suggest_bool(value)
        case "string_type":
            plain = value is not None and not isinstance(value, dict | list)
            return f"put it in quotes: '{to_yaml(value)}'" if plain else example
        case "model_type" | "model_attributes_type" | "dict_type":
            return _for_mapping(value, field, example)
        case "tuple_type":
            return "put '- ' before each item" if isinstance(value, dict) else example
        case "greater_than_equal" | "less_than_equal":
            bound = context.get("ge", context.get("le"))
            return f"write at {'least' if kind.startswith('greater') else 'most'} {bound}"
        case "too_long" if field and field.examples and isinstance(field.examples[0], list):
            return f"write at most {context['max_length']}"
        case _:
            return example


def for_unknown_key(
    key: object, value: object, inside: KeyPath, root: type[Node], data: Any, *, is_override: bool = False
) -> str:
    """Return what to write instead of an unknown key. An override may name a field that the file has already."""
    if isinstance(key, str) and value is None and missing_space(key):
        return f"write {key.split(':')[0]}: and a space"
    if isinstance(key, str) and (found := find_lookalike(key[:MAX_COMPARED])):
        return "; ".join(found)
    known = [field for node in nodes_at(inside, root, data) for field in node.model_fields]
    written = value_at(inside, data)
    if inside and key in root.model_fields:
        return f"it belongs at the left margin, outside of {inside[0]}"
    key = _KEY_ALIASES.get(key, key) if isinstance(key, str) else key
    if near := closest_match(key, [field for field in known if is_override or field not in written]):
        return f"did you mean {near!r}?"
    if near := closest_match(key, known, cutoff=0.75):
        return f"did you mean {near!r}, which is given already?"
    if key in [kind for node in possible_nodes(inside, root, data) for kind in kinds_of(node)]:
        return f"write kind: {key} and its fields beside it"
    others = [path for path in find_field(str(key), root) if path != inside]
    for path in others:
        if path[: len(inside)] == inside and any(key in node.model_fields for node in nodes_at(path, root, data)):
            return f"it belongs in {format_path(path)}"
    if kind := kind_with_key(key, inside, root, data):
        return f"it is a field of kind: {kind}"
    for path in others:
        if any(key in node.model_fields for node in nodes_at(path, root, data)):
            return f"it belongs in {format_path(path)}"
    return f"known: {', '.join(dict.fromkeys(known))}"


def for_missing_key(key: str, inside: KeyPath, root: type[Node], data: Any) -> str:
    """Return what to write for a missing key."""
    for node in nodes_at(inside, root, data):
        field = node.model_fields.get(key)
        if key == "kind" and field:
            return f"write kind: {field.default}"
        if field and field.examples:
            return f"write {key}: {to_yaml(field.examples[0])}"
        if field and nodes_in(field.annotation):
            return f"write {key}: and its fields beneath; t2tbuild init writes a whole spec"
    return f"write {key}: 1" if key == "version" else ""


def for_size(path: KeyPath, value: Any, data: Any) -> str:
    """Return the size of a model whose depth or width is out of range, with the other fields as they are."""
    if path[-1:] not in (("depth",), ("embed_dim",)) or type(value) not in (int, float):
        return ""
    above = value_at(path[:-1], data)
    fields: dict[str, float] = {"depth": 12, "embed_dim": 384, "mlp_ratio": 4}
    fields |= {key: given for key, given in above.items() if type(given) in (int, float) and 0 < given < 10**12}
    fields[str(path[-1])] = float(min(value, 10**30))
    params = fields["depth"] * limits.block_params(fields["embed_dim"], fields["mlp_ratio"])
    return f"it would have {limits.format_params(params)}" if params > limits.MAX_PARAMS else ""


def _for_text(value: str) -> str:
    """Return a hint that follows from a text alone, whatever its field is."""
    if len(value) > 2 * MAX_COMPARED:
        return ""
    if lookalike := find_lookalike(value):
        return "; ".join(lookalike)
    if "${" in value or value.startswith("$"):
        return "variables are not substituted; write the value itself, or give it on the command line as key=value"
    if not value.startswith(TIMM_TEACHER) and (found := missing_space(value)):
        return f"write {found[1]} and a space"
    return ""


def _for_evaluator(value: object) -> str:
    """Return the nearest module:function, such as pkg.mod:f for pkg/mod.py:f or pkg.mod.f; empty if there is none."""
    module, _, function = re.sub(r"\s|\(\)$", "", str(value)[:MAX_COMPARED]).rpartition(":")
    if not module:
        module, _, function = function.removesuffix(".py").rpartition(".")
    module = module.removesuffix(".py").replace("/", ".").strip(".")
    near = f"{module}:{function}"
    return f"write {near}" if re.search(EVALUATOR_PATTERN, near) else ""


def _for_number(value: object, field: FieldInfo | None, whole: bool) -> str:
    if isinstance(value, str):
        of_hundred = field is not None and field.json_schema_extra == unit("percent")
        takes_pairs = field is not None and any(isinstance(example, list) for example in field.examples or ())
        if takes_pairs and (pair := re.fullmatch(r"[\[(]?([0-9]+) *[,x ] *([0-9]+)[\])]?", value)):
            return f"write [{pair[1]}, {pair[2]}]"
        if hint := suggest_number(value.rstrip(" %") + "  " if of_hundred and value.endswith("%") else value):
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


def _for_mapping(value: object, field: FieldInfo | None, example: str) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "write its fields without '- '"
    if value is None:
        return "write its fields beneath, indented"
    nodes = nodes_in(field.annotation) if field else []
    bare = len(nodes) == 1 and not any(below.is_required() for below in nodes[0].model_fields.values())
    if bare and field and not field.is_required() and isinstance(value, bool):
        return "write {} for its defaults" if value else "remove it"
    kinds = [kind for node in nodes for kind in kinds_of(node)]
    if near := closest_match(value, kinds):
        return f"write kind: {near} and its other fields beneath"
    return example or "write its fields beneath, indented"


def _may_be_null(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


def _example(field: FieldInfo | None, path: KeyPath) -> str:
    """Return an example of the field, or of the item of a list."""
    if field is None or (not field.examples and (field.is_required() or field.default is None)):
        return ""
    example = field.examples[0] if field.examples else field.default
    last = path[-1] if path else ""
    if isinstance(example, list) and isinstance(last, int):
        example = example[min(last, len(example) - 1)]
    elif field.examples and any(isinstance(other, list) for other in field.examples[1:]):
        return f"write for example {' or '.join(map(to_yaml, field.examples))}"
    return "" if isinstance(example, Node) else f"write for example {to_yaml(example)}"
