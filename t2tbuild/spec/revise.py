"""A model spec made into another: at another image size, with other classes, thinner."""

from typing import Any

from pydantic import ValidationError

from t2tbuild.errors import InputError
from t2tbuild.spec.model import ModelSpec


def revise(model: ModelSpec, changes: dict[str, Any], purpose: str) -> ModelSpec:
    """`model` with its top-level fields in `changes` replaced.

    Raises InputError that names the model, the purpose and the rule that the changed model breaks.
    """
    try:
        return ModelSpec.model_validate(model.model_dump() | changes)
    except ValidationError as error:
        raise InputError(f"{model.name} cannot be {purpose}: {error.errors()[0]['msg']}") from None
