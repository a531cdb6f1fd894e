"""YAML text -> plain data, with the place of every key and value. Scalars follow YAML 1.2, so 1e-3 is a number.

What could hurt or mislead is refused before anything grows: over 1 MiB, over 32 levels, tags, aliases, several
documents, duplicate keys, numbers with a leading zero.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from t2tbuild.errors import Diagnostic, InputError, SpecError

MAX_BYTES = 1 << 20
MAX_LEVELS = 32
Keys = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+")
MAX_DIGITS = 400
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,5})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True)
class Place:
    """Where something stands in a file, counted from 1; line 0 means no line, e.g. a command-line override."""

    file: str
    line: int = 0
    column: int = 0

    def diagnostic(self, path: Keys, message: str, hint: str = "") -> Diagnostic:
        return Diagnostic(self.file, self.line, self.column, dotted(path), message, hint)


@dataclass
class Source:
    """Plain data and where it came from: `keys` has the place of each mapping key, `values` that of each value."""

    file: str
    data: Any = None
    keys: dict[Keys, Place] = field(default_factory=dict)
    values: dict[Keys, Place] = field(default_factory=dict)

    def place(self, path: Keys) -> Place:
        """The place of the value at `path`, or of the nearest thing around it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(self.file))


def dotted(path: Keys) -> str:
    """A path as people write it: model.tokenizer.stages.0.patch_size."""
    return ".".join(str(part) for part in path)


def read_file(path: Path) -> Source:
    """Read a YAML file. Raises InputError or SpecError when it cannot be read or is not plain YAML."""
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: larger than 1 MiB; a spec is a few lines of YAML")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError([Diagnostic(str(path), line, 1, "", "not UTF-8 text", "save the file as UTF-8")]) from None
    return read_text(text, str(path))


def read_text(text: str, file: str) -> Source:
    """Read YAML text; `file` is the name shown in messages."""
    source = Source(file)
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(source, mark) if mark else Place(file)
        raise SpecError([place.diagnostic((), f"not YAML: {error.problem or error.context}")]) from None
    except yaml.YAMLError as error:
        raise SpecError([Place(file).diagnostic((), f"not YAML: {str(error).splitlines()[0]}")]) from None
    if node is None:
        raise SpecError([Place(file).diagnostic((), "the spec is empty")])
    problems: list[Diagnostic] = []
    source.data = _convert(node, (), source, problems)
    if problems:
        raise SpecError(problems)
    return source


def _place(source: Source, mark: Any) -> Place:
    return Place(source.file, mark.line + 1, mark.column + 1)


def _check_events(text: str, source: Source) -> None:
    level = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        problem = ""
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            problem = "several documents in one file" if documents > 1 else ""
        elif isinstance(event, yaml.CollectionStartEvent):
            level += 1
            problem = f"nested deeper than {MAX_LEVELS} levels" if level > MAX_LEVELS else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        elif isinstance(event, yaml.AliasEvent):
            problem = f"alias *{event.anchor}: write the value out"
        tag = getattr(event, "tag", None)
        if tag:
            problem = f"tag {tag}: a spec is plain YAML without tags"
        if problem:
            raise SpecError([_place(source, event.start_mark).diagnostic((), problem)])


def _convert(node: yaml.Node, path: Keys, source: Source, problems: list[Diagnostic]) -> Any:
    place = source.values[path] = _place(source, node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(child, (*path, index), source, problems) for index, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, path, source, problems)
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:  # quoted and block scalars are text
        return node.value
    try:
        return parse_scalar(node.value)
    except ValueError as error:
        problems.append(place.diagnostic(path, str(error)))
        return node.value


def _convert_mapping(node: yaml.MappingNode, path: Keys, source: Source, problems: list[Diagnostic]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _place(source, key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(place.diagnostic(path, "a key must be a word"))
            continue
        key = key_node.value
        if key in data:
            first = source.keys[(*path, key)].line
            problems.append(place.diagnostic((*path, key), f"key {key!r} stands twice, first in line {first}"))
            continue
        source.keys[(*path, key)] = place
        data[key] = _convert(value_node, (*path, key), source, problems)
    return data


def parse_scalar(text: str) -> Any:
    """The value of a plain YAML 1.2 scalar. Raises ValueError on a number that YAML 1.1 and 1.2 read differently."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS and _INT.fullmatch(text):
        raise ValueError(f"a number of {len(text)} digits")
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f"{text} has a leading zero; write {int(text)}")
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return math.copysign(math.inf, -1 if text[0] == "-" else 1)
    return math.nan if text in (".nan", ".NaN", ".NAN") else text
