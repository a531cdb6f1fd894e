"""A spec with the text that it came from, so that later checks can report problems at their place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from t2tbuild.errors import Diagnostic, FieldError, SeveralFieldsError, SpecError, UnknownFieldError
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.partial_validation import Finding, run_lints
from t2tbuild.spec.diagnostics.yaml_source import YamlSource

N = TypeVar("N", bound=Node, covariant=True)


@dataclass(frozen=True)
class Document(Generic[N]):
    """A spec and the source that it was read from."""

    spec: N
    source: YamlSource
    before: N | None = None
    """The spec before overrides were applied; None without overrides, or if the file itself is invalid."""

    @property
    def warnings(self) -> list[Diagnostic]:
        """The warnings, each at its place: renamed fields, then lint warnings."""
        old = [(found.path, found.rule) for found in run_lints(self.before)]
        warnings = [(found, self.warning(found)) for found in run_lints(self.spec)]
        placed = [
            message if (found.path, found.rule) in old else self.source.at_override(message)
            for found, message in warnings
        ]
        return [*sorted(self.source.warnings, key=lambda one: (one.line, one.column)), *placed]

    def warning(self, found: Finding) -> Diagnostic:
        """Return a warning at its place."""
        place = self.source.section_place(found.path)
        return replace(place.diagnostic(found.path, found.rule, found.message, found.hint), severity="warning")

    @contextmanager
    def located_errors(self) -> Iterator[None]:
        """Turn a FieldError that is raised in this context into a SpecError with the place of the field."""
        try:
            yield
        except FieldError as error:
            raise SpecError([self._locate(error)]) from None
        except SeveralFieldsError as error:
            raise SpecError([self._locate(one) for one in error.errors]) from None

    def _locate(self, error: FieldError) -> Diagnostic:
        unknown = isinstance(error, UnknownFieldError)
        place = self.source.key_place(error.path) if unknown else self.source.section_place(error.path)
        return place.diagnostic(error.path, error.rule, error.message, error.hint)
