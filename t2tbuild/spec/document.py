"""A spec together with the text that it came from, so that what is found wrong later is still told at its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from t2tbuild.errors import Diagnostic, FieldError, SeveralFieldsError, SpecError, UnknownFieldError
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.partial_validation import Found, advised
from t2tbuild.spec.diagnostics.yaml_source import Source

N = TypeVar("N", bound=Node, covariant=True)


@dataclass(frozen=True)
class Document(Generic[N]):
    """What a file says, and where it says it."""

    spec: N
    source: Source
    before: N | None = None
    """The spec as it was before the command line changed it, if it did."""

    @property
    def warnings(self) -> list[Diagnostic]:
        """What is legal but likely a slip, each at its place."""
        old = [(found.path, found.rule) for found in advised(self.before)]
        warnings = [(found, self.warning(found)) for found in advised(self.spec)]
        return [
            message if (found.path, found.rule) in old else self.source.blame(message) for found, message in warnings
        ]

    def warning(self, found: Found) -> Diagnostic:
        """A warning at its place."""
        place = self.source.section(found.path)
        return replace(place.diagnostic(found.path, found.rule, found.message, found.hint), severity="warning")

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Whatever part of the house finds a field wrong within this context, it is told with the field's place."""
        try:
            yield
        except FieldError as error:
            raise SpecError([self._placed(error)]) from None
        except SeveralFieldsError as error:
            raise SpecError([self._placed(one) for one in error.errors]) from None

    def _placed(self, error: FieldError) -> Diagnostic:
        unknown = isinstance(error, UnknownFieldError)
        place = self.source.key_place(error.path) if unknown else self.source.section(error.path)
        return place.diagnostic(error.path, error.rule, error.message, error.hint)
