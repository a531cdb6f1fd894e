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

    Its label names are dropped where `changes` has another number of classes and no names.

    Raises FieldError at the field of `field_hint`, with its hint: "NAME cannot be PURPOSE: the violated rule".
    """
    if changes.get("num_classes", model.num_classes) != model.num_classes:
        changes = {"label_names": None} | changes
    try:
        return type(model).model_validate(model.model_dump() | changes)  # type: ignore[return-value]
    except ValidationError as error:
        (first, *_) = error.errors()
        path, hint = field_hint
        raise FieldError(path, "purpose", f"{model.name} cannot be {purpose}: {first['msg']}", hint) from None
