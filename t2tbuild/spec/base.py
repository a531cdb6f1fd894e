"""What every node of the spec tree shares: strict, frozen, no unknown keys, help beneath each field."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from t2tbuild.spec.units import format_count, format_seconds, parse_count, parse_seconds

_EMPTY: tuple[object, ...] = (None, (), [], {})


class Node(BaseModel):
    """A node of the spec tree."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        defer_build=True,  # a command pays only for the nodes that it reads
    )

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Leave out what is absent by default; a null that a person wrote stays."""
        fields = type(self).model_fields
        return {
            key: value
            for key, value in handler(self).items()
            if value not in _EMPTY or fields[key].default not in _EMPTY
        }


def rule(field: str | tuple[str | int, ...], message: str, hint: str = "") -> PydanticCustomError:
    """An error of a rule across fields, shown at the place of `field`: a field's name or a path below the node."""
    path = (field,) if isinstance(field, str) and field else tuple(field)
    return PydanticCustomError("rule", "{message}", {"message": message, "field": path, "hint": hint})


def _count(value: object) -> int:
    try:
        return parse_count(value)
    except ValueError as error:
        raise PydanticCustomError("units", "{message}", {"message": str(error)}) from None


def _seconds(value: object) -> float:
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise PydanticCustomError("units", "{message}", {"message": str(error)}) from None


def _version(value: object) -> object:
    if type(value) is not int:  # 1 == True == 1.0 for a Literal
        raise PydanticCustomError("version", "must be 1", {})
    return value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def default_kind(kind: str) -> BeforeValidator:
    """Lets a mapping of a tagged union leave out `kind`, which then is the given one."""

    def with_kind(value: object) -> object:
        return {"kind": kind} | value if isinstance(value, dict) else value

    return BeforeValidator(with_kind)


Listed = BeforeValidator(_tuple)
"""Lets a list of YAML stand where a field is a tuple, which is frozen as the spec is."""

Version = Annotated[Literal[1], BeforeValidator(_version)]
"""Version of the spec language."""

Count = Annotated[int, BeforeValidator(_count), PlainSerializer(format_count)]
"""A number of things, written 5G, 21.5M, 5e9 or 5000000."""

Seconds = Annotated[float, BeforeValidator(_seconds), PlainSerializer(format_seconds)]
"""A length of time, written 5m, 90s, 2h or a number of seconds."""
