"""Change fields of a model spec: another image size, other classes, a smaller width."""

from typing import Any, TypeVar

from pydantic import ValidationError

from t2tbuild.errors import FieldError
from t2tbuild.spec.model import AnyModel

M = TypeVar("M", bound=AnyModel)
FieldHint = tuple[tuple[str, ...], str]
"""The field to change, and what to write there."""


def with_changes(model: M, changes: dict[str, Any], purpose: str, field_hint: FieldHint = (("model",), "")) -> M:
    """Return `model` with the top-level fields in `changes` replaced.

    Raises FieldError at the field of `field_hint`, with its hint: "NAME cannot be PURPOSE: the violated rule".
    """
    try:
        return type(model).model_validate(model.model_dump() | changes)  # type: ignore[return-value]
    except ValidationError as error:
        (first, *_) = error.errors()
        path, hint = field_hint
        raise FieldError(path, "purpose", f"{model.name} cannot be {purpose}: {first['msg']}", hint) from None
