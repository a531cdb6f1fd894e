"""Spec files in: YAML text -> validated spec, with every mistake at its place."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.spec import catalog
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.messages import explain
from t2tbuild.spec.diagnostics.scalars import shown
from t2tbuild.spec.diagnostics.yaml_source import Keys, Source, dotted, read_file, read_text
from t2tbuild.spec.distill import TIMM_TEACHER
from t2tbuild.spec.document import Document
from t2tbuild.spec.overrides import Override
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.weights import LOCAL_DIR

T = TypeVar("T", bound=Node)


def load_spec(spec: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Load a spec by shipped name or path, with `key=value` overrides such as `train.epochs=5`.

    The paper's figures are dropped when an override changes the model that they are of.

    Raises SpecError with file, line, rule and value of every mistake, or of a file that is not there.

        >>> load_spec("t2t_vit_14", ["model.image_size=384"]).model.tokens
        577
    """
    return read_spec(spec, overrides).spec


def load_search_spec(spec: str | Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Load a search spec by shipped name or path, with `key=value` overrides such as `search.trials=8`.

    Raises as `load_spec` does.

        >>> load_search_spec("deep_narrow").search.base
        't2t_vit_14'
    """
    return read_search_spec(spec, overrides).spec


def read_spec(spec: str | Path, overrides: Sequence[str] = ()) -> Document[Spec]:
    """As `load_spec`, with the places of everything that is written, and warnings."""
    path = catalog.find(spec)
    return _spec_of(read_file(path), path.parent, _listed(overrides))


def read_search_spec(spec: str | Path, overrides: Sequence[str] = ()) -> Document[SearchSpec]:
    """As `load_search_spec`, with the places of everything that is written, and warnings."""
    path = catalog.find(spec)
    return _search_of(read_file(path), path.parent, _listed(overrides))


def read_any(spec: str | Path, overrides: Sequence[str] = ()) -> Document[Spec] | Document[SearchSpec]:
    """The document of a file, whichever kind of spec it holds."""
    path = catalog.find(spec)
    return _document(read_file(path), path.parent, overrides)


def _listed(overrides: Sequence[str]) -> Sequence[str]:
    return [overrides] if isinstance(overrides, str) else overrides


def check_text(text: str, path: Path) -> Document[Spec] | Document[SearchSpec]:
    """The document of a file that is to stand at `path`. Raises SpecError when its text is no sound spec."""
    return _document(read_text(text, str(path)), path.parent, ())


def _document(source: Source, folder: Path, overrides: Sequence[str]) -> Document[Spec] | Document[SearchSpec]:
    if isinstance(source.data, dict) and "search" in source.data:
        return _search_of(source, folder, overrides)
    return _spec_of(source, folder, overrides)


def _spec_of(source: Source, folder: Path, overrides: Sequence[str]) -> Document[Spec]:
    _refuse_other_kind(source, wanted="model")
    changes = [Override(override) for override in overrides]
    whole = [change for change in changes if change.key == "model"]
    if not whole:
        _take_model_of_another(source, beside=folder)
    pristine = copy.deepcopy(source.data) if changes else None
    for change in (*whole, *(change for change in changes if change not in whole)):  # parts of it come after the model
        if change.parts[0] == "model":
            source.data.pop("paper", None)
            source.forget(("paper",))
        change.apply_to(source)
        if change in whole:
            _take_model_of_another(source, beside=Path())
    _find_weights(source, ("weights",), beside=_seen_from(folder, changes, ("weights", "weights.file")))
    taught = ("train", "train.distill")
    fields = (*taught, "train.distill.weights", "train.distill.weights.file")
    _find_weights(source, ("train", "distill", "weights"), beside=_seen_from(folder, changes, fields))
    _find_teacher(source, beside=_seen_from(folder, changes, (*taught, "train.distill.teacher")))
    return _validated(source, Spec, pristine)


def _search_of(source: Source, folder: Path, overrides: Sequence[str]) -> Document[SearchSpec]:
    _refuse_other_kind(source, wanted="search")
    changes = [Override(override) for override in overrides]
    pristine = copy.deepcopy(source.data) if changes else None
    for change in changes:
        change.apply_to(source)
    search = _mapping(source.data, ("search",))
    _find_model(source, search, ("search", "base"), _seen_from(folder, changes, ("search", "search.base")))
    listed = search.get("enqueue")
    beside = _seen_from(folder, changes, ("search", "search.enqueue"))
    for index in range(len(listed) if isinstance(listed, list) else 0):
        _find_model(source, listed, ("search", "enqueue", index), beside)
    return _validated(source, SearchSpec, pristine)


def _seen_from(folder: Path, changes: Sequence[Override], fields: Sequence[str]) -> Path:
    """The folder from which a path is meant: of the file that names it, or here, where the command line does."""
    return Path() if any(change.key in fields for change in changes) else folder


def _refuse_other_kind(source: Source, wanted: str) -> None:
    if not isinstance(source.data, dict):
        hint = f"write {wanted}: and its fields beneath"
        raise SpecError(source.problems or [source.place(()).diagnostic((), "type", "a spec must be a mapping", hint)])
    other, command = ("search", "t2tbuild search") if wanted == "model" else ("model", "t2tbuild summarize or train")
    if other in source.data and wanted not in source.data:
        place = source.keys[(other,)]
        message = f"this is a {other} spec, and a {wanted} spec is wanted"
        raise SpecError([place.diagnostic((other,), "spec-kind", message, f"use it with {command}")])


def _take_model_of_another(source: Source, beside: Path) -> None:
    """Replace `model: NAME` by the model of the spec of that name, and take its paper row along."""
    name = source.data.get("model")
    if not isinstance(name, str):
        return
    other = _other(source, ("model",), name, beside)
    if other is None:
        return
    if not isinstance(other.data, dict) or not isinstance(other.data.get("model"), dict):
        message = f"{other.file} has no model section of its own"
        source.problems.append(
            source.place(("model",)).diagnostic(("model",), "base", message, "name a spec that has one")
        )
        return
    try:
        _validate(other, Spec)
    except SpecError as error:
        _mend_first(source, ("model",), name, error)
        return
    for section in ("model", "paper"):
        if section in other.data and (section == "model" or section not in source.data):
            source.forget((section,))
            source.data[section] = other.data[section]
            source.values.update({path: place for path, place in other.values.items() if path[:1] == (section,)})
            source.keys.update({path: place for path, place in other.keys.items() if path[:1] == (section,)})


def _find_model(source: Source, above: Any, path: Keys, beside: Path) -> None:
    """Make the path of a model spec absolute, seen from the folder of who named it; a shipped name stays."""
    key: Any = path[-1]
    named = above[key] if isinstance(above, list) or key in above else None
    if not isinstance(named, str):
        return
    other = _other(source, path, named, beside)
    if other and not catalog.file_of(named):
        above[key] = str(Path(other.file).resolve())
        try:
            _spec_of(other, Path(other.file).parent, ())
        except SpecError as error:
            _mend_first(source, path, named, error)


def _mend_first(source: Source, path: Keys, name: str, error: SpecError) -> None:
    """Another spec that is named at a path has mistakes of its own, which are told beside it."""
    place = source.place(path)
    source.problems.append(place.diagnostic(path, "base", f"{name!r:.60} has mistakes of its own", "mend them first"))
    source.problems += error.diagnostics


def _other(source: Source, path: Keys, name: str, beside: Path) -> Source | None:
    """The spec that another spec names at a path; where there is none, the problem is told where it is named."""
    place, named = source.place(path), f"{dotted(path)} {name!r:.60}"
    try:
        file = catalog.find(name, beside)
    except SpecError as error:
        (wrong,) = error.diagnostics
        source.problems.append(place.diagnostic(path, wrong.rule, f"{named}: {wrong.message}", wrong.hint))
        return None
    other = read_file(file)
    if isinstance(other.data, dict) and "search" in other.data and "model" not in other.data:
        told = f"{named} is a search spec, and a model spec is wanted"
        source.problems.append(place.diagnostic(path, "base", told, "name a model spec; t2tbuild ls shows them"))
        return None
    return other


def _find_weights(source: Source, path: Keys, beside: Path) -> None:
    """Make the file of weights that are named at a path absolute, seen from the folder of who named it."""
    above = _mapping(source.data, path[:-1])
    weights = above.get(path[-1])
    if isinstance(weights, str):
        _find_file(source, above, path, beside, "name a file of weights")
    elif isinstance(weights, dict):
        _find_file(source, weights, (*path, "file"), beside, "name a file of weights")


def _find_teacher(source: Source, beside: Path) -> None:
    """Make a teacher that is a path absolute, as weights; a model of timm and a shipped name stay."""
    path: Keys = ("train", "distill", "teacher")
    above = _mapping(source.data, path[:-1])
    teacher = above.get("teacher")
    if isinstance(teacher, str) and not teacher.startswith(TIMM_TEACHER) and not catalog.file_of(teacher):
        _find_file(source, above, path, beside, "name a run directory, a spec, or timm: and a model")


def _mapping(data: Any, path: Keys) -> dict[Any, Any]:
    """The mapping at a path; an empty one where there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _find_file(source: Source, above: dict[Any, Any], path: Keys, beside: Path, hint: str) -> None:
    file = above.get(path[-1])
    if not isinstance(file, str) or not file.strip():
        return
    try:
        above[path[-1]] = str((beside / file.removeprefix(LOCAL_DIR)).resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        message = f"{shown(file)} is not a file name"
        source.problems.append(source.place(path).diagnostic(path, "file", message, hint))


def _validated(source: Source, root: type[T], pristine: Any) -> Document[T]:
    """The document of a source; `pristine` is its data before the command line changed it."""
    try:
        before = root.model_validate(pristine) if source.changes else None
    except ValidationError:
        before = None  # what is wrong may be the file's own fault
    try:
        return Document(_validate(source, root), source, before)
    except SpecError as error:
        if before is None:
            raise
        raise SpecError([source.blame(diagnostic) for diagnostic in error.diagnostics]) from None


def _order(source: Source) -> Callable[[Diagnostic], tuple[bool, str, bool, int, int]]:
    """From top to bottom: the source's own first, and last in each file what has no line."""
    return lambda one: (one.file != source.file, one.file, not one.line, one.line, one.column)


def _echoes(mistake: Diagnostic, problem: Diagnostic) -> bool:
    """Whether a mistake is there only because of a problem: at the same place, or in a mapping that lost a key."""
    same_place = (mistake.file, mistake.line, mistake.column) == (problem.file, problem.line, problem.column)
    return same_place or (problem.rule == "key" and mistake.path.startswith(problem.path))


def _validate(source: Source, root: type[T]) -> T:
    """The spec that the source's data makes. Raises SpecError with all that is wrong with it, from top to bottom."""
    problems = source.problems
    try:
        spec = root.model_validate(source.data)
    except ValidationError as error:
        message = [
            one for one in explain(error, source, root) if not any(_echoes(one, problem) for problem in problems)
        ]
        both = sorted([*problems, *message], key=_order(source))
        raise SpecError(both) from None
    if problems:
        raise SpecError(problems)
    return spec
