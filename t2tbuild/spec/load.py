"""Load spec files: YAML text -> validated spec. Every mistake is reported at its place."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.spec import catalog
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.messages import build_diagnostics
from t2tbuild.spec.diagnostics.scalars import format_value
from t2tbuild.spec.diagnostics.yaml_source import KeyPath, YamlSource, format_path, read_file, read_text
from t2tbuild.spec.distill import TIMM_TEACHER
from t2tbuild.spec.document import Document
from t2tbuild.spec.extension import consent
from t2tbuild.spec.overrides import Override
from t2tbuild.spec.renamed import check_overrides, rename_fields, warn_of_source
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.weights import LOCAL_DIR, RELEASED, is_remote, name_released

T = TypeVar("T", bound=Node)

AnyOverrides = Sequence[str | Override]
"""Overrides as texts, or as Override objects where an option of the command line stands for one."""


def load_spec(spec: str | Path, overrides: Sequence[str] = (), *, allow_extensions: bool = False) -> Spec:
    """Load a spec by shipped name, path or run directory, with `key=value` overrides such as `train.epochs=5`.

    The paper's figures are dropped if an override changes the model. Issues a DeprecationWarning for each field that is
    written by its old name. Python files that the spec names as extensions are imported only if the user has allowed
    them; `allow_extensions=True` allows these contents from now on.

    Raises SpecError with file, line, rule and value of every mistake, or if there is no such file.

        >>> load_spec("t2t_vit_14", ["model.image_size=384"]).model.tokens
        577
    """
    with consent.granting(allow_extensions):
        document = read_spec(spec, overrides)
    warn_of_source(document.source)
    return document.spec


def load_search_spec(spec: str | Path, overrides: Sequence[str] = (), *, allow_extensions: bool = False) -> SearchSpec:
    """Load a search spec by shipped name or path, with `key=value` overrides such as `search.trials=8`.

    Warns, raises and asks for consent as `load_spec` does.

        >>> load_search_spec("deep_narrow").search.base
        't2t_vit_14'
    """
    with consent.granting(allow_extensions):
        document = read_search_spec(spec, overrides)
    warn_of_source(document.source)
    return document.spec


def read_spec(spec: str | Path, overrides: AnyOverrides = ()) -> Document[Spec]:
    """Load a spec as `load_spec` does, with the places of its fields and its warnings."""
    path = catalog.find(spec)
    source = read_file(path)
    if path == Path(spec) / catalog.RUN_SPEC:
        _require_winner(source, spec)
    return _spec_document(source, path.parent, overrides)


def read_search_spec(spec: str | Path, overrides: AnyOverrides = ()) -> Document[SearchSpec]:
    """Load a search spec as `load_search_spec` does, with the places of its fields and its warnings."""
    path = catalog.find(spec)
    if path == Path(spec) / catalog.WINNER:
        message, hint = "the run of a search, not a search spec", f"t2tbuild search resume {spec} continues it"
        hint = f"{hint}; for a new search, name {Path(spec) / catalog.RUN_SPEC}"
        raise SpecError([Diagnostic(str(spec), 0, 0, "", "spec-kind", message, hint)])
    return _search_document(read_file(path), path.parent, overrides)


def read_any(spec: str | Path, overrides: AnyOverrides = ()) -> Document[Spec] | Document[SearchSpec]:
    """Load a spec of either kind, with the places of its fields and its warnings."""
    path = catalog.find(spec)
    return _document(read_file(path), path.parent, overrides)


def _as_overrides(overrides: AnyOverrides) -> list[Override]:
    listed = [overrides] if isinstance(overrides, str) else overrides
    return [one if isinstance(one, Override) else Override(one) for one in listed]


def check_text(text: str, path: Path) -> Document[Spec] | Document[SearchSpec]:
    """Load the text of a file that will be written to `path`. Raises SpecError if the text is not a valid spec."""
    return _document(read_text(text, str(path)), path.parent, ())


def _document(source: YamlSource, folder: Path, overrides: AnyOverrides) -> Document[Spec] | Document[SearchSpec]:
    if isinstance(source.data, dict) and "search" in source.data:
        return _search_document(source, folder, overrides)
    return _spec_document(source, folder, overrides)


def _spec_document(source: YamlSource, folder: Path, overrides: AnyOverrides) -> Document[Spec]:
    _check_kind(source, wanted="model")
    rename_fields(source)
    changes = _as_overrides(overrides)
    naming = [change for change in changes if change.parts[0] == "extensions"]
    for change in naming:
        change.apply_to(source)
    _load_extensions(source, _base_folder(folder, changes, ("extensions",)))  # before those of a named model are added
    whole = [change for change in changes if change.key == "model"]
    if not whole:
        _use_named_model(source, beside=folder)
    original = copy.deepcopy(source.data) if changes else None
    # The model itself is replaced first, then its fields.
    for change in (*whole, *(change for change in changes if change not in (*whole, *naming))):
        if change.parts[0] == "model":
            source.data.pop("paper", None)
            source.drop_places(("paper",))
        change.apply_to(source)
        if change in whole:
            _use_named_model(source, beside=Path())
    check_overrides(changes, source)
    rename_fields(source)  # an override may set a mapping that holds old names
    _name_released(source, ("weights",), _mapping(source.data, ("model",)).get("name"))
    _resolve_weights_file(source, ("weights",), beside=_base_folder(folder, changes, ("weights", "weights.file")))
    distill = ("train", "train.distill")
    fields = (*distill, "train.distill.weights", "train.distill.weights.file")
    _name_released(source, ("train", "distill", "weights"), _mapping(source.data, ("train", "distill")).get("teacher"))
    _resolve_weights_file(source, ("train", "distill", "weights"), beside=_base_folder(folder, changes, fields))
    _resolve_teacher(source, beside=_base_folder(folder, changes, (*distill, "train.distill.teacher")))
    return _validated_document(source, Spec, original)


def _search_document(source: YamlSource, folder: Path, overrides: AnyOverrides) -> Document[SearchSpec]:
    _check_kind(source, wanted="search")
    rename_fields(source)
    changes = _as_overrides(overrides)
    original = copy.deepcopy(source.data) if changes else None
    for change in changes:
        change.apply_to(source)
    check_overrides(changes, source)
    rename_fields(source)  # an override may set a mapping that holds old names
    _load_extensions(source, _base_folder(folder, changes, ("extensions",)))
    search = _mapping(source.data, ("search",))
    _resolve_model(source, search, ("search", "base"), _base_folder(folder, changes, ("search", "search.base")))
    listed = search.get("enqueue")
    beside = _base_folder(folder, changes, ("search", "search.enqueue"))
    for index in range(len(listed) if isinstance(listed, list) else 0):
        _resolve_model(source, listed, ("search", "enqueue", index), beside)
    return _validated_document(source, SearchSpec, original)


def _load_extensions(source: YamlSource, beside: Path) -> None:
    """Load the extensions that a source names; null names none.

    Raises SpecError if one cannot be loaded: kinds would be unknown.
    """
    if source.data.get("extensions", ()) is None:
        source.data["extensions"] = []
    if not source.data.get("extensions"):
        return

    from t2tbuild.spec.extension.load import load_named_extensions

    before = len(source.problems)
    load_named_extensions(source, beside)
    if len(source.problems) > before:
        raise SpecError(source.problems)


def _add_extensions(source: YamlSource, other: YamlSource) -> None:
    """Add the extensions of a named spec, which are loaded, to those of the source that uses its model."""
    added = other.data.get("extensions")
    if not added or not isinstance(source.data.get("extensions", []), list):
        return

    from t2tbuild.spec.extension.load import identify

    listed = source.data.setdefault("extensions", [])
    known = {identify(name) for name in listed if isinstance(name, str)}
    for index, name in enumerate(added):
        if identify(name) not in known:
            source.values["extensions", len(listed)] = other.place(("extensions", index))
            listed.append(name)


def _base_folder(folder: Path, changes: Sequence[Override], fields: Sequence[str]) -> Path:
    """Return the folder that a relative path starts from: the file's, or the working one if an override sets it."""
    return Path() if any(change.key in fields for change in changes) else folder


def _require_winner(source: YamlSource, run: str | Path) -> None:
    """Raise SpecError where a run directory in place of a model spec is that of a search without a winner."""
    if isinstance(source.data, dict) and "search" in source.data and "model" not in source.data:
        message = f"the run of a search that has no winner yet: there is no {catalog.WINNER}"
        hint = f"t2tbuild search resume {run} continues it, t2tbuild search export {run} takes the best so far"
        raise SpecError([Diagnostic(str(run), 0, 0, "", "spec-kind", message, hint)])


def _check_kind(source: YamlSource, wanted: str) -> None:
    if not isinstance(source.data, dict):
        hint = f"write {wanted}: and its fields beneath"
        raise SpecError(source.problems or [source.place(()).diagnostic((), "type", "a spec must be a mapping", hint)])
    other, command = ("search", "t2tbuild search") if wanted == "model" else ("model", "t2tbuild summarize or train")
    if other in source.data and wanted not in source.data:
        place = source.keys[(other,)]
        message = f"this is a {other} spec; a {wanted} spec is required"
        raise SpecError([place.diagnostic((other,), "spec-kind", message, f"use it with {command}")])


def _use_named_model(source: YamlSource, beside: Path) -> None:
    """Replace `model: NAME` by the model of the spec NAME, and copy its paper rows."""
    name = source.data.get("model")
    if not isinstance(name, str):
        return
    other = _read_named_spec(source, ("model",), name, beside)
    if other is None:
        return
    if not isinstance(other.data, dict) or not isinstance(other.data.get("model"), dict):
        message = f"{other.file} has no model section of its own"
        source.problems.append(
            source.place(("model",)).diagnostic(("model",), "base", message, "name a spec that has one")
        )
        return
    try:
        _load_extensions(other, Path(other.file).parent)
        _validate(other, Spec)
    except SpecError as error:
        _report_named_spec_errors(source, ("model",), name, error)
        return
    for section in ("model", "paper"):
        if section in other.data and (section == "model" or section not in source.data):
            source.drop_places((section,))
            source.data[section] = other.data[section]
            source.values.update({path: place for path, place in other.values.items() if path[:1] == (section,)})
            source.keys.update({path: place for path, place in other.keys.items() if path[:1] == (section,)})
    _add_extensions(source, other)


def _resolve_model(source: YamlSource, above: Any, path: KeyPath, beside: Path) -> None:
    """Make the path of a model spec absolute. A relative path starts from `beside`; a shipped name is kept."""
    key: Any = path[-1]
    named = above[key] if isinstance(above, list) or key in above else None
    if not isinstance(named, str):
        return
    other = _read_named_spec(source, path, named, beside)
    if other and not catalog.file_of(named):
        above[key] = str(Path(other.file).resolve())
        try:
            _spec_document(other, Path(other.file).parent, ())
        except SpecError as error:
            _report_named_spec_errors(source, path, named, error)
        else:
            _add_extensions(source, other)


def _report_named_spec_errors(source: YamlSource, path: KeyPath, name: str, error: SpecError) -> None:
    """Report the errors of a spec that another spec names at a path."""
    place = source.place(path)
    source.problems.append(place.diagnostic(path, "base", f"{name!r:.60} has mistakes of its own", "fix them first"))
    source.problems += error.diagnostics


def _read_named_spec(source: YamlSource, path: KeyPath, name: str, beside: Path) -> YamlSource | None:
    """Read the spec that is named at a path. If there is none, report it at the name and return None."""
    place, named = source.place(path), f"{format_path(path)} {name!r:.60}"
    try:
        file = catalog.find(name, beside)
    except SpecError as error:
        (wrong,) = error.diagnostics
        source.problems.append(place.diagnostic(path, wrong.rule, f"{named}: {wrong.message}", wrong.hint))
        return None
    other = read_file(file)
    if isinstance(other.data, dict) and "search" in other.data and "model" not in other.data:
        message = f"{named} is a search spec; a model spec is required"
        source.problems.append(place.diagnostic(path, "base", message, "name a model spec; t2tbuild ls lists them"))
        return None
    return other


def _resolve_weights_file(source: YamlSource, path: KeyPath, beside: Path) -> None:
    """Make the weights file at a path absolute. A relative path starts from `beside`."""
    above = _mapping(source.data, path[:-1])
    weights = above.get(path[-1])
    if isinstance(weights, str):
        _resolve_file(source, above, path, beside, "name a file of weights")
    elif isinstance(weights, dict):
        _resolve_file(source, weights, (*path, "file"), beside, "name a file of weights")


def _name_released(source: YamlSource, path: KeyPath, model: Any) -> None:
    """Add the name of their model to weights that are written `released`."""
    above = _mapping(source.data, path[:-1])
    if isinstance(above.get(path[-1]), dict):
        above, path = above[path[-1]], (*path, "file")
    if above.get(path[-1]) == RELEASED and isinstance(model, str):
        above[path[-1]] = name_released(RELEASED, model)


def _resolve_teacher(source: YamlSource, beside: Path) -> None:
    """Make the path of a teacher absolute. A timm model and a shipped name are kept."""
    path: KeyPath = ("train", "distill", "teacher")
    above = _mapping(source.data, path[:-1])
    teacher = above.get("teacher")
    if isinstance(teacher, str) and not teacher.startswith(TIMM_TEACHER) and not catalog.file_of(teacher):
        _resolve_file(source, above, path, beside, "name a run directory, a spec, or timm: and a model")


def _mapping(data: Any, path: KeyPath) -> dict[Any, Any]:
    """Return the mapping at a path, or an empty one if there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _resolve_file(source: YamlSource, above: dict[Any, Any], path: KeyPath, beside: Path, hint: str) -> None:
    file = above.get(path[-1])
    if not isinstance(file, str) or not file.strip() or (path[-1] != "teacher" and is_remote(file)):
        return
    try:
        above[path[-1]] = str((beside / file.removeprefix(LOCAL_DIR)).resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        message = f"{format_value(file)} is not a file name"
        source.problems.append(source.place(path).diagnostic(path, "file", message, hint))


def _validated_document(source: YamlSource, root: type[T], original: Any) -> Document[T]:
    """Validate a source. `original` is its data before the command line changed it."""
    try:
        before = root.model_validate(original) if source.changes else None
    except ValidationError:
        before = None  # the mistakes may be in the file itself
    try:
        return Document(_validate(source, root), source, before)
    except SpecError as error:
        if before is None:
            raise
        raise SpecError([source.at_override(diagnostic) for diagnostic in error.diagnostics]) from None


def _sort_key(source: YamlSource) -> Callable[[Diagnostic], tuple[bool, str, bool, int, int]]:
    """Return the sort key of diagnostics: the source's own file first, then by line; those without a line come last."""
    return lambda one: (one.file != source.file, one.file, not one.line, one.line, one.column)


def _is_consequence(mistake: Diagnostic, problem: Diagnostic) -> bool:
    """Whether a mistake follows from a problem: it has the same place, or is in a mapping that lost a key."""
    same_place = (mistake.file, mistake.line, mistake.column) == (problem.file, problem.line, problem.column)
    return same_place or (problem.rule == "key" and mistake.path.startswith(problem.path))


def _validate(source: YamlSource, root: type[T]) -> T:
    """Validate the data of a source. Raises SpecError with all its mistakes, from top to bottom."""
    problems = source.problems
    try:
        spec = root.model_validate(source.data)
    except ValidationError as error:
        found = build_diagnostics(error, source, root)
        mistakes = [one for one in found if not any(_is_consequence(one, problem) for problem in problems)]
        raise SpecError(sorted([*problems, *mistakes], key=_sort_key(source))) from None
    if problems:
        raise SpecError(problems)
    return spec
