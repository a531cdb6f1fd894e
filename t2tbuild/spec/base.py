"""What every node of the spec tree shares: strict, frozen, no unknown keys, help beneath fields, rules across them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from t2tbuild.spec.units import (
    COUNT_PATTERN,
    TIME_PATTERN,
    UnitError,
    format_count,
    format_seconds,
    parse_count,
    parse_seconds,
)

_EMPTY: tuple[object, ...] = (None, (), [], {})

FULL = "full"
"""Context of a dump that leaves nothing out, defaults and nulls included."""

VERSIONS = {1: "the first of the language"}
"""The versions that are read, and what changed in each."""


class Violation(NamedTuple):
    """A rule across fields that does not hold, or advice that applies.

    `field` is what a person would change: a field's name, or a path below the node; empty means the node itself.
    """

    field: str | tuple[str | int, ...]
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return self.message + (f" ({self.hint})" if self.hint else "")

    @property
    def path(self) -> tuple[str | int, ...]:
        return tuple(self.field) if isinstance(self.field, tuple) else (self.field,) if self.field else ()


Check = Callable[[Any], Iterator[Violation]]
C = TypeVar("C", bound=Check)


def rule(check: C) -> C:
    """Marks a method of a node as a rule across its fields; it yields what is broken, and its name is the rule's."""
    check.spec_rule = "error"  # type: ignore[attr-defined]
    return check


def lint(check: C) -> C:
    """Marks a method of a node that yields what is legal but likely a slip; its name is the warning's."""
    check.spec_rule = "warning"  # type: ignore[attr-defined]
    return check


class Node(BaseModel):
    """A node of the spec tree."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
        defer_build=True,  # a command pays only for the nodes that it reads
    )

    rules: ClassVar[dict[str, Check]] = {}
    """Rules across the node's fields by name."""
    advices: ClassVar[dict[str, Check]] = {}
    """What may be advised on the node, by name."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        members = (item for base in reversed(cls.__mro__) for item in vars(base).items())
        methods = {name: value for name, value in members if isinstance(value, FunctionType)}
        checks = {name: getattr(value, "spec_rule", "") for name, value in methods.items()}
        cls.rules = {_named(name): methods[name] for name, kind in checks.items() if kind == "error"}
        cls.advices = {_named(name): methods[name] for name, kind in checks.items() if kind == "warning"}

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{message}", {"message": str(broken)}), loc=broken.path, input=None
            )
            for check in type(self).rules.values()
            for broken in check(self)
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Leave out what is absent by default; a null that a person wrote stays."""
        if info.context == FULL:
            return handler(self)
        fields = type(self).model_fields
        return {
            key: value
            for key, value in handler(self).items()
            if value not in _EMPTY or fields[key].default not in _EMPTY
        }


class Named(Node):
    """A node of a tagged union that may be written as its kind alone when every other field has its default."""

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        fields = handler(self)
        if info.context == FULL:
            return fields
        defaults = {key: info.default for key, info in type(self).model_fields.items()}
        short = all(_tuple(value) == defaults[key] for key, value in fields.items())
        return fields["kind"] if short else fields


def _named(method: str) -> str:
    return method.strip("_").replace("_", "-")


def unit(name: str) -> dict[str, Any]:
    """The unit of a field, for `json_schema_extra`: an editor and the reference show it."""
    return {"unit": name}


def _units(parse: Callable[[object], int | float]) -> BeforeValidator:
    """Reads a number with a unit; what is wrong with it becomes an error of the field."""

    def read(value: object) -> int | float:
        try:
            return parse(value)
        except UnitError as error:
            raise PydanticCustomError("units", "{message}", {"message": error.message, "hint": error.hint}) from None

    return BeforeValidator(read)


def _version(value: object) -> object:
    if type(value) is not int or value not in VERSIONS:  # 1 == True == 1.0 for a Literal
        raise PydanticCustomError("version", "must be {known}", {"known": ", ".join(map(str, VERSIONS))})
    return value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def default_kind(kind: str) -> BeforeValidator:
    """Lets a mapping of a tagged union leave out `kind`, which then is the given one."""

    def with_kind(value: object) -> object:
        return {"kind": kind} | value if isinstance(value, dict) else value

    return BeforeValidator(with_kind)


def _by_kind(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


by_kind = BeforeValidator(_by_kind)
"""Lets a kind's name stand for a mapping of that kind; `Short` tells editors."""


@dataclass(frozen=True, eq=False)
class Short:
    """Tells editors how else a field may be written, as JSON Schema; its validator is declared beside it."""

    schema: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [dict(self.schema), handler(core_schema)]}


class OneOrMany:
    """Tells editors that a list of one may be written as the item alone; its validator is declared beside it."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(core_schema)
        return {"anyOf": [many["items"], many]}


def _require_kind(schema: dict[str, Any]) -> None:
    schema["required"] = ["kind", *schema.get("required", ())]


KIND_WRITTEN = ConfigDict(json_schema_extra=_require_kind)
"""Of a node whose kind must be written, since its union reads a mapping without a kind as another."""

Listed = BeforeValidator(_tuple)
"""Lets a list of YAML stand where a field is a tuple, which is frozen as the spec is."""

Version = Annotated[Literal[1], BeforeValidator(_version)]
"""Version of the spec language."""

Count = Annotated[
    int,
    _units(parse_count),
    PlainSerializer(format_count),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "multipleOf": 1},
                {"type": "string", "pattern": COUNT_PATTERN},
            ]
        }
    ),
]
"""A number of things, written 5G, 21.5M, 5e9 or 5000000."""

Seconds = Annotated[
    float,
    _units(parse_seconds),
    PlainSerializer(format_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": TIME_PATTERN}]}),
]
"""A length of time, written 5m, 90s, 2h or a number of seconds."""
