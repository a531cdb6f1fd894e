"""A model spec made into another: at another image size, with other classes, thinner."""

from typing import Any, TypeVar

from pydantic import ValidationError

from t2tbuild.errors import FieldError
from t2tbuild.spec.model import AnyModel

M = TypeVar("M", bound=AnyModel)
Blame = tuple[tuple[str, ...], str]
"""The field that a person would change, and what to write there."""


def with_changes(model: M, changes: dict[str, Any], purpose: str, blame: Blame = (("model",), "")) -> M:
    """`model` with its top-level fields in `changes` replaced; `blame` is the field to change where that cannot be.

    Raises FieldError that names the model, the purpose and the rule that the changed model breaks.
    """
    try:
        return type(model).model_validate(model.model_dump() | changes)  # type: ignore[return-value]
    except ValidationError as error:
        (first, *_) = error.errors()
        path, hint = blame
        raise FieldError(path, "purpose", f"{model.name} cannot be {purpose}: {first['msg']}", hint) from None
