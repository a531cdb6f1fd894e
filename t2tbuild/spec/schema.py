"""The JSON Schema of the spec language, with which editors complete and check files.

Every field has a description, a default, an example and, where it applies, a unit. Shorthands are in the schema too:
`attention: performer`, `model: t2t_vit_14`, `weights: FILE`, one row for a list of rows. JSON Schema cannot express
rules across fields; `t2tbuild validate` checks them.
"""

from typing import Any

from t2tbuild.spec.field_docs import all_nodes, field_descriptions
from t2tbuild.spec.modeline import Kind
from t2tbuild.spec.root import SearchSpec, Spec

_DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that every YAML language server reads
_ROOTS: dict[Kind, type[Spec] | type[SearchSpec]] = {"spec": Spec, "search": SearchSpec}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of model and training specs, or of search specs."""
    root = _ROOTS[kind]
    whole, nodes = root.model_json_schema(), {node.__name__: node for node in all_nodes()}
    for name, node in {root.__name__: whole, **whole["$defs"]}.items():
        for field, text in field_descriptions(nodes[name]).items() if name in nodes else ():
            node["properties"][field]["description"] = text
    return {"$schema": _DIALECT, **_tidy(whole)}


def _tidy(node: Any) -> Any:
    """Convert pydantic's schema to draft 7, without redundant titles, and with one number type for int and float."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {
        _BOUNDS.get(str(key), str(key)): {name: _tidy(item) for name, item in value.items()}
        if key in _NAMED
        else _tidy(value)
        for key, value in node.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
    if "anyOf" in made:
        numbers = [choice | {"type": "integer"} for choice in made["anyOf"] if choice.get("type") == "number"]
        made["anyOf"] = [choice for choice in made["anyOf"] if choice not in numbers]
    if "description" in made and "examples" not in made and (example := _example(made)) is not None:
        made["examples"] = [example]
    if len(made.get("anyOf", ())) == 1:
        made |= made.pop("anyOf")[0]
    return made


def _example(field: dict[str, Any]) -> Any:
    """Return an example of a field with few values."""
    if field.get("type") == "boolean":
        return True
    return field["enum"][-1] if "enum" in field else field.get("const")


_NAMED = ("properties", "$defs")  # their keys are names, not keywords
