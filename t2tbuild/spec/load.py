"""Spec files in: YAML text -> validated spec, with every mistake at its place."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from t2tbuild.errors import SpecError
from t2tbuild.spec import catalog
from t2tbuild.spec.base import Node
from t2tbuild.spec.document import Document
from t2tbuild.spec.explain import explain
from t2tbuild.spec.overrides import apply_overrides
from t2tbuild.spec.tree import SearchSpec, Spec
from t2tbuild.spec.weights import LOCAL_DIR
from t2tbuild.spec.yaml_source import Keys, Source, dotted, read_file, read_text

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
    return _spec_of(read_file(path), path.parent, overrides)


def read_search_spec(spec: str | Path, overrides: Sequence[str] = ()) -> Document[SearchSpec]:
    """As `load_search_spec`, with the places of everything that is written, and warnings."""
    path = catalog.find(spec)
    return _search_of(read_file(path), path.parent, overrides)


def read_any(spec: str | Path, overrides: Sequence[str] = ()) -> Document[Spec] | Document[SearchSpec]:
    """The document of a file, whichever kind of spec it holds."""
    path = catalog.find(spec)
    return _document(read_file(path), path.parent, overrides)


def check_text(text: str, path: Path) -> None:
    """Raises SpecError when the text of a file that is to stand at `path` is no sound spec."""
    _document(read_text(text, str(path)), path.parent, ())


def _document(source: Source, folder: Path, overrides: Sequence[str]) -> Document[Spec] | Document[SearchSpec]:
    if isinstance(source.data, dict) and "search" in source.data:
        return _search_of(source, folder, overrides)
    return _spec_of(source, folder, overrides)


def _spec_of(source: Source, folder: Path, overrides: Sequence[str]) -> Document[Spec]:
    _refuse_other_kind(source, wanted="model")
    whole = [override for override in overrides if override.partition("=")[0].strip() == "model"]
    parts = [override for override in overrides if override not in whole]
    if not whole:
        _take_model_of_another(source, beside=folder)
    for changes in (whole, parts):  # `model=NAME` comes first, whatever else is changed in that model
        if any(override.startswith("model") for override in changes):
            source.data.pop("paper", None)
            source.forget(("paper",))
        apply_overrides(source, changes)
        _take_model_of_another(source, beside=Path())
    _find_weights(source, beside=_seen_from(folder, overrides, ("weights", "weights.file")))
    return Document(_validate(source, Spec), source)


def _search_of(source: Source, folder: Path, overrides: Sequence[str]) -> Document[SearchSpec]:
    _refuse_other_kind(source, wanted="search")
    apply_overrides(source, overrides)
    _find_base(source, beside=_seen_from(folder, overrides, ("search", "search.base")))
    return Document(_validate(source, SearchSpec), source)


def _seen_from(folder: Path, overrides: Sequence[str], fields: Sequence[str]) -> Path:
    """The folder from which a path is meant: of the file that names it, or here, where the command line does."""
    return Path() if any(override.partition("=")[0].strip() in fields for override in overrides) else folder


def _refuse_other_kind(source: Source, wanted: str) -> None:
    if not isinstance(source.data, dict):
        hint = f"write {wanted}: and its fields beneath"
        raise SpecError([source.place(()).diagnostic((), "type", "a spec must be a mapping", hint)])
    other, command = ("search", "t2tbuild search") if wanted == "model" else ("model", "t2tbuild summarize or train")
    if other in source.data and wanted not in source.data:
        place = source.keys[(other,)]
        told = f"this is a {other} spec, and a {wanted} spec is wanted"
        raise SpecError([place.diagnostic((other,), "spec-kind", told, f"use it with {command}")])


def _take_model_of_another(source: Source, beside: Path) -> None:
    """Replace `model: NAME` by the model of the spec of that name, and take its paper row along."""
    name = source.data.get("model")
    if not isinstance(name, str):
        return
    other = read_file(_found(source, ("model",), name, beside))
    if not isinstance(other.data, dict) or not isinstance(other.data.get("model"), dict):
        told = f"{other.file} has no model section of its own"
        raise SpecError([source.place(("model",)).diagnostic(("model",), "base", told, "name a spec that has one")])
    for section in ("model", "paper"):
        if section in other.data and (section == "model" or section not in source.data):
            source.forget((section,))
            source.data[section] = other.data[section]
            source.values.update({path: place for path, place in other.values.items() if path[:1] == (section,)})
            source.keys.update({path: place for path, place in other.keys.items() if path[:1] == (section,)})


def _find_base(source: Source, beside: Path) -> None:
    """Make a path in `search.base` absolute, seen from the search spec's own folder; a shipped name stays."""
    search = source.data.get("search")
    base = search.get("base") if isinstance(search, dict) else None
    if isinstance(base, str):
        file = _found(source, ("search", "base"), base, beside)
        search["base"] = base if catalog.file_of(base) else str(file.resolve())


def _found(source: Source, path: Keys, name: str, beside: Path) -> Path:
    """The file of a spec that another spec names; what is wrong with the name is told where it is written."""
    place, named = source.place(path), f"{dotted(path)} {name!r:.60}"
    try:
        file = catalog.find(name, beside)
    except SpecError as error:
        (wrong,) = error.diagnostics
        raise SpecError([place.diagnostic(path, wrong.rule, f"{named}: {wrong.message}", wrong.hint)]) from None
    other = read_file(file).data
    if isinstance(other, dict) and "search" in other and "model" not in other:
        told = f"{named} is a search spec, and a model spec is wanted"
        raise SpecError([place.diagnostic(path, "base", told, "name a model spec; t2tbuild ls shows them")])
    return file


def _find_weights(source: Source, beside: Path) -> None:
    """Make the path of `weights` absolute, seen from the folder of who named it."""
    weights = source.data.get("weights")
    file = weights.get("file") if isinstance(weights, dict) else weights
    if not isinstance(file, str) or not file:
        return
    path = str((beside / file.removeprefix(LOCAL_DIR)).resolve())
    if isinstance(weights, dict):
        weights["file"] = path
    else:
        source.data["weights"] = path


def _validate(source: Source, root: type[T]) -> T:
    try:
        return root.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(explain(error, source, root)) from None
