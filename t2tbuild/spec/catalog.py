"""The catalog of shipped specs: t2t_vit_14, deep_narrow and others, found by name."""

import difflib
from pathlib import Path
from typing import Literal

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.files import exists, is_file

Kind = Literal["specs", "training", "search"]

SPEC_SUFFIXES = (".yaml", ".yml")
RUN_SPEC, WINNER = "spec.yaml", "best.yaml"
"""The files of a run directory that are specs: its own, and in the run of a search that of its winner."""
RUNS_SHOWN = 5  # runs that a hint names
MAX_NAME = 255  # bytes of a file name on the usual file systems

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = _PACKAGE / "shipped"  # exists in the wheel; in a checkout, the folders are beside the package
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent
_FOLDERS: dict[Kind, Path] = {
    "specs": _ROOT / "specs",
    "training": _ROOT / "specs" / "train",
    "search": _ROOT / "search",
}
SCHEMAS = {"spec": _ROOT / "specs" / "spec.schema.json", "search": _ROOT / "search" / "search.schema.json"}
"""The JSON Schemas that ship beside the specs."""


def names(kind: Kind) -> list[str]:
    """Return the sorted names of the shipped specs of a kind: models, trainings or searches."""
    return sorted(path.stem for path in _FOLDERS[kind].glob("*.yaml"))


def all_names() -> list[str]:
    """Return the names of all shipped specs, models first."""
    return [name for kind in _FOLDERS for name in names(kind)]


def file_of(name: str) -> Path | None:
    """Return the file of a shipped name of any kind, or None if there is none."""
    if not name or set(name) & set("/\\\0") or len(name) > MAX_NAME:
        return None
    files = (folder / f"{name}.yaml" for folder in _FOLDERS.values())
    return next((file for file in files if file.is_file()), None)


def spec_in_run(folder: Path) -> Path | None:
    """Return the spec that a run directory stands for: of a search that of its winner, if there is one.

    None for any other path.
    """
    if not is_file(folder / RUN_SPEC):
        return None
    return folder / (WINNER if is_file(folder / WINNER) else RUN_SPEC)


def describe_run(name_or_path: str | Path) -> str:
    """Describe which file is taken where a run directory is named in place of a spec; empty for anything else."""
    text = str(name_or_path)
    found = None if file_of(text) else spec_in_run(Path(text))
    if found is None:
        return ""
    if found.name == WINNER:
        return f"{text}: the run of a search; taking its winner, {found}"
    return f"{text}: a run; taking its spec, {found}"


def find(name_or_path: str | Path, beside: Path | None = None) -> Path:
    """Return the file of a shipped name, of a path, or of a run directory, see `spec_in_run`.

    A relative path starts from `beside`, if given.

    Raises SpecError that suggests the closest shipped names and files.
    """
    text = str(name_or_path)
    if not text.strip():
        raise _error(repr(text), "the name is empty", "t2tbuild ls lists the shipped names")
    if shipped := file_of(text):
        return shipped
    path = (beside or Path()) / text
    if len(path.name.encode(errors="replace")) > MAX_NAME or "\0" in text:
        raise _error(f"{text!r:.40}", "not a file name", "name a shipped spec or a YAML file")
    try:
        return _regular_file(path, text, beside or Path())
    except OSError as error:
        raise _error(text, f"cannot be read: {error.strerror}", "check its permissions") from None


def _regular_file(path: Path, text: str, base: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        if (taken := spec_in_run(path)) is not None:
            return taken
        inside = sorted(child.name for child in path.glob("*.yaml"))
        what = f"it contains {', '.join(inside[:8])}" if inside else "it contains no .yaml file"
        raise _error(text, f"a folder, not a spec; {what}", "name one file")
    if path.exists():
        raise _error(text, "not a regular file", "name a YAML file")
    if path.is_symlink():
        raise _error(text, f"a link to {path.readlink()}, which does not exist", "name a YAML file")
    raise _error(text, *_describe_missing(base, Path(text)))


def _describe_missing(base: Path, named: Path) -> tuple[str, str]:
    """Return the message and the hint for a path below `base` that does not exist: a spec's, or that of a run."""
    folders = [path for path in reversed(named.parents) if path.parts]  # base itself may be a folder yet to be made
    missing = next((path for path in folders if not exists(base / path)), named)
    message = "no such file and no such shipped name"
    if missing != named:
        message = f"there is no folder {missing}"
    elif named.suffix in SPEC_SUFFIXES or len(named.parts) == 1:
        return message, _suggest_names(base / named, named)
    else:
        message = "no such run and no such file"
    runs = _list_runs(base / missing.parent)
    near = [
        missing.parent / name / named.relative_to(missing) for name in difflib.get_close_matches(missing.name, runs)
    ]
    near = [path for path in near if exists(base / path)]
    if near:
        return message, f"did you mean {' or '.join(map(str, near))}?"
    if not runs or not missing.parent.parts:
        return message, _suggest_names(base / named, named)
    more = f" and {len(runs) - RUNS_SHOWN} more" if len(runs) > RUNS_SHOWN else ""
    return message, f"runs in {missing.parent}: {', '.join(runs[:RUNS_SHOWN])}{more}"


def _list_runs(folder: Path) -> list[str]:
    """Return the names of the run directories in a folder, sorted; none if it is not there."""
    return sorted(child.name for child in folder.iterdir() if is_file(child / "spec.yaml")) if folder.is_dir() else []


def _suggest_names(path: Path, named: Path) -> str:
    """Return a hint with the closest names in the catalog and in the folder of the path, runs among them."""
    near = difflib.get_close_matches(named.stem, all_names(), n=3)
    if path.parent.is_dir():
        children = (child for child in path.parent.iterdir() if child.suffix in SPEC_SUFFIXES)
        files = sorted(child.name for child in children if child.is_file())
        for names_here in (files, _list_runs(path.parent)):
            near += [str(named.parent / name) for name in difflib.get_close_matches(path.name, names_here, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else "t2tbuild ls lists the shipped names"


def _error(name: str, message: str, hint: str) -> SpecError:
    return SpecError([Diagnostic(name, 0, 0, "", "file", message, hint)])
