"""A model spec made into another: at another image size, with other classes, thinner."""

from typing import Any, TypeVar

from pydantic import ValidationError

from t2tbuild.errors import InputError
from t2tbuild.spec.model import AnyModel

M = TypeVar("M", bound=AnyModel)


def revise(model: M, changes: dict[str, Any], purpose: str) -> M:
    """`model` with its top-level fields in `changes` replaced.

    Raises InputError that names the model, the purpose and the rule that the changed model breaks.
    """
    try:
        return type(model).model_validate(model.model_dump() | changes)  # type: ignore[return-value]
    except ValidationError as error:
        raise InputError(f"{model.name} cannot be {purpose}: {error.errors()[0]['msg']}") from None
