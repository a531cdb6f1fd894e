"""The base class of spec nodes: strict, frozen, without unknown keys, with rules across fields."""

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
    BYTES_PATTERN,
    COUNT_PATTERN,
    TIME_PATTERN,
    UnitError,
    format_count,
    format_seconds,
    parse_bytes,
    parse_count,
    parse_seconds,
)

_EMPTY: tuple[object, ...] = (None, (), [], {})

FULL = "full"
"""Context of a dump that includes defaults and nulls."""

VERSIONS = {1: "the first version"}
"""Supported versions of the spec language, and what changed in each."""


class Violation(NamedTuple):
    """A violation of a rule across fields, or a lint warning.

    `field` is the field to change: a name, or a path below the node. Empty means the node itself.
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
    """Mark a method of a node as a rule across its fields. It yields violations, and its name is the rule's name."""
    check.spec_rule = "error"  # type: ignore[attr-defined]
    return check


def lint(check: C) -> C:
    """Mark a method of a node as a lint check. It yields warnings of valid but unlikely values; its name is theirs."""
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
        defer_build=True,  # a command builds only the nodes that it uses
    )

    rules: ClassVar[dict[str, Check]] = {}
    """Rules across the node's fields, by name."""
    lints: ClassVar[dict[str, Check]] = {}
    """Lint checks of the node, by name."""

    def __eq__(self, other: object) -> bool:
        if type(self) is type(other) and self.__dict__.keys() == other.__dict__.keys():
            return self.__dict__ == other.__dict__  # pydantic's own is five times slower
        return super().__eq__(other)  # of the fields alone: one of the two has a cached property

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        members = (item for base in reversed(cls.__mro__) for item in vars(base).items())
        methods = {name: value for name, value in members if isinstance(value, FunctionType)}
        checks = {name: getattr(value, "spec_rule", "") for name, value in methods.items()}
        cls.rules = {_rule_name(name): methods[name] for name, kind in checks.items() if kind == "error"}
        cls.lints = {_rule_name(name): methods[name] for name, kind in checks.items() if kind == "warning"}

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{message}", {"message": str(one)}),
                loc=one.path,
                input=None,
            )
            for check in type(self).rules.values()
            for one in check(self)
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self

    @model_serializer(mode="wrap")
    def _omit_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """Omit fields that are absent by default. An explicit null is kept."""
        if info.context == FULL:
            return handler(self)
        fields = type(self).model_fields
        return {
            key: value
            for key, value in handler(self).items()
            if value not in _EMPTY or fields[key].default not in _EMPTY
        }


class ShorthandNode(Node):
    """A node of a tagged union with a shorthand: its kind alone, if every other field has its default."""

    @model_serializer(mode="wrap")
    def _omit_defaults(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        fields = handler(self)
        if info.context == FULL:
            return fields
        defaults = {key: info.default for key, info in type(self).model_fields.items()}
        short = all(_tuple(value) == defaults[key] for key, value in fields.items())
        return fields["kind"] if short else fields


def _rule_name(method: str) -> str:
    return method.strip("_").replace("_", "-")


def unit(name: str) -> dict[str, Any]:
    """Return the unit of a field for `json_schema_extra`. Editors and docs/spec.md show it."""
    return {"unit": name}


def _units(parse: Callable[[object], int | float]) -> BeforeValidator:
    """Return a validator that parses a number with a suffix."""

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
    """Return a validator of a tagged union: a mapping without `kind` has the given one."""

    def with_kind(value: object) -> object:
        return {"kind": kind} | value if isinstance(value, dict) else value

    return BeforeValidator(with_kind)


def _by_kind(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


kind_shorthand = BeforeValidator(_by_kind)
"""Validator: the name of a kind means a mapping of that kind. Use with `Shorthand`."""


@dataclass(frozen=True, eq=False)
class Shorthand:
    """JSON Schema of the shorthand of a field, for editors. The validator is declared beside it."""

    schema: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [dict(self.schema), handler(core_schema)]}


class OneOrMany:
    """JSON Schema of a list that may be written as a single item. The validator is declared beside it."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(core_schema)
        return {"anyOf": [many["items"], many]}


def _require_kind(schema: dict[str, Any]) -> None:
    schema["required"] = ["kind", *schema.get("required", ())]


KIND_REQUIRED = ConfigDict(json_schema_extra=_require_kind)
"""Config of a node whose `kind` is required, because its union reads a mapping without a kind as another node."""

ListAsTuple = BeforeValidator(_tuple)
"""Validator: a YAML list becomes a tuple, which is immutable like the spec."""

Version = Annotated[Literal[1], BeforeValidator(_version)]
"""Version of the spec language."""


def number_or_text(pattern: str, **number: Any) -> dict[str, Any]:
    """Return the JSON schema of a positive number, with further keywords, or of a text such as 5G."""
    return {"anyOf": [{"type": "number", "exclusiveMinimum": 0} | number, {"type": "string", "pattern": pattern}]}


Count = Annotated[
    int,
    _units(parse_count),
    PlainSerializer(format_count),
    WithJsonSchema(number_or_text(COUNT_PATTERN, multipleOf=1)),
]
"""A count: 5G, 21.5M, 5e9 or 5000000."""

Bytes = Annotated[
    int,
    _units(parse_bytes),
    PlainSerializer(format_count),
    WithJsonSchema(number_or_text(BYTES_PATTERN, multipleOf=1)),
]
"""A number of bytes: 150MB, 1.5 GB, 150MiB, or a count."""

Seconds = Annotated[
    float,
    _units(parse_seconds),
    PlainSerializer(format_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": TIME_PATTERN}]}),
]
"""A time in seconds: 5m, 90s, 2h or a number."""
