"""The spec language as JSON Schema, from which editors complete and check a file while it is written.

Every field has its description, its default, an example and, where it has one, its unit. What a person may write in
short is in the schema too: `attention: performer`, `model: t2t_vit_14`, `weights: FILE`, one row for a list of rows.
Rules across fields are beyond JSON Schema; `t2tbuild validate` has them.
"""

from typing import Any

from t2tbuild.spec.field_docs import descriptions, every_node
from t2tbuild.spec.modeline import Kind
from t2tbuild.spec.root import SearchSpec, Spec

_DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that every YAML language server reads
_ROOTS: dict[Kind, type[Spec] | type[SearchSpec]] = {"spec": Spec, "search": SearchSpec}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def json_schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema of model and training specs, or of search specs."""
    root = _ROOTS[kind]
    whole, nodes = root.model_json_schema(), {node.__name__: node for node in every_node()}
    for name, node in {root.__name__: whole, **whole["$defs"]}.items():
        for field, text in descriptions(nodes[name]).items() if name in nodes else ():
            node["properties"][field]["description"] = text
    return {"$schema": _DIALECT, **_tidy(whole)}


def _tidy(node: Any) -> Any:
    """Pydantic's schema in draft 7, without titles that say a name twice, and a number where int or float may stand."""
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
    """An example of a field whose values are few: what it may be set to."""
    if field.get("type") == "boolean":
        return True
    return field["enum"][-1] if "enum" in field else field.get("const")


_NAMED = ("properties", "$defs")  # their keys are names, not keywords
