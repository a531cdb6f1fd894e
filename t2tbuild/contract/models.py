"""Small models that use the node of an extension."""

from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from t2tbuild.errors import InputError
from t2tbuild.spec.diagnostics.introspect import kinds_of
from t2tbuild.spec.extension.registry import Backbone, BlockOption, Extension, TokenAttention, Tokenizer
from t2tbuild.spec.model import ModelSpec

WIDTH = 48
"""Channels of the small models, which many numbers of heads divide."""

_STAGES: list[dict[str, Any]] = [
    {"patch_size": 7, "overlap": 3, "token_dim": WIDTH},
    {"patch_size": 3, "overlap": 1, "token_dim": WIDTH // 2},
    {"patch_size": 3, "overlap": 1},
]
_PLAIN: dict[str, Any] = {"depth": 2, "embed_dim": WIDTH, "num_heads": 4, "mlp_ratio": 3}
_DENSE: dict[str, Any] = {"kind": "dense", "blocks": [1, 2], "growth_rate": WIDTH, "embed_dim": WIDTH, "num_heads": 4}


def small_models(extension: Extension) -> list[ModelSpec]:
    """Return small models with the node of an extension: with its defaults, and with other examples of its fields.

    Raises InputError if a model is not valid, as where a required field has no example.
    """
    found: list[ModelSpec] = []
    for node in _nodes(extension):
        for tokenizer, backbone in _sections(extension, node):
            try:
                model = ModelSpec.model_validate(
                    {
                        "name": "check",
                        "image_size": [56, 72],  # rectangular, so that rows and columns are not mistaken for each other
                        "num_classes": 5,
                        "tokenizer": tokenizer,
                        "backbone": backbone,
                    }
                )
            except ValidationError as error:
                raise InputError(_describe(node, error)) from None
            if model not in found:
                found.append(model)
    return found


def _sections(extension: Extension, node: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the tokenizers and backbones of models with a node."""
    plain = _tokenizer("transformer")
    match extension:
        case TokenAttention():
            return [(_tokenizer(node), _PLAIN)]
        case Tokenizer():
            return [(node, _PLAIN)]
        case BlockOption():
            return [(plain, backbone | {"options": [node]}) for backbone in (_PLAIN, _DENSE)]
        case Backbone():
            return [(plain, node)]
        case _:
            raise InputError(f"{type(extension).__name__} is not a kind of extension")


def _tokenizer(attention: Any) -> dict[str, Any]:
    return {"kind": "t2t", "stages": [*(stage | {"attention": attention} for stage in _STAGES[:-1]), _STAGES[-1]]}


def _nodes(extension: Extension) -> list[dict[str, Any]]:
    """Return the node with its defaults, and with the first and the last example of each field of its own."""
    inherited = extension.BASE.model_fields
    fields = {name: info for name, info in extension.node.model_fields.items() if name not in ("kind", *inherited)}
    kind: dict[str, Any] = {"kind": kinds_of(extension.node)[0]}
    if "num_heads" in inherited:
        kind |= {"num_heads": 1}  # divides any width
    required = {name: _examples(info)[0] for name, info in fields.items() if info.is_required() and _examples(info)}
    first, last = (
        {name: _examples(info)[index] for name, info in fields.items() if _examples(info)} for index in (0, -1)
    )
    return [kind | required, kind | required | first, kind | required | last]


def _examples(info: FieldInfo) -> list[Any]:
    return list(info.examples or ())


def _describe(node: dict[str, Any], error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    hint = "; give the field an example: Field(examples=[7])" if first["type"] == "missing" else ""
    return f"a small model with {node} is not valid: {place}: {first['msg']}{hint}"
