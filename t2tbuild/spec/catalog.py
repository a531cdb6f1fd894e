"""The specs that ship with t2tbuild, found by name: t2t_vit_14, deep_narrow."""

import difflib
from pathlib import Path
from typing import Literal

from t2tbuild.errors import Diagnostic, SpecError

Kind = Literal["specs", "training", "search"]

MAX_NAME = 255  # bytes of a file name on the usual file systems

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = _PACKAGE / "shipped"  # in the wheel; in a checkout the folders stand beside the package
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent
_FOLDERS: dict[Kind, Path] = {
    "specs": _ROOT / "specs",
    "training": _ROOT / "specs" / "train",
    "search": _ROOT / "search",
}
SCHEMAS = {"spec": _ROOT / "specs" / "spec.schema.json", "search": _ROOT / "search" / "search.schema.json"}
"""The JSON Schemas that ship beside the specs."""


def names(kind: Kind) -> list[str]:
    """Names of the shipped specs of a kind, sorted: of models, of trainings, of searches."""
    return sorted(path.stem for path in _FOLDERS[kind].glob("*.yaml"))


def all_names() -> list[str]:
    """Names of all shipped specs, models first."""
    return [name for kind in _FOLDERS for name in names(kind)]


def file_of(name: str) -> Path | None:
    """The file of a shipped name of whatever kind; None where there is none of that name."""
    if not name or set(name) & set("/\\\0") or len(name) > MAX_NAME:
        return None
    files = (folder / f"{name}.yaml" for folder in _FOLDERS.values())
    return next((file for file in files if file.is_file()), None)


def find(name_or_path: str | Path, beside: Path | None = None) -> Path:
    """The file that a name or a path means: a shipped name, else a path, seen from `beside` if that is given.

    Raises SpecError that names the nearest shipped specs and files.
    """
    text = str(name_or_path)
    if not text.strip():
        raise _wrong(repr(text), "the name is empty", "t2tbuild ls shows the shipped names")
    if shipped := file_of(text):
        return shipped
    path = (beside or Path()) / text
    if len(path.name.encode(errors="replace")) > MAX_NAME or "\0" in text:
        raise _wrong(f"{text!r:.40}", "not a file name", "name a shipped spec or a YAML file")
    try:
        return _regular_file(path, text)
    except OSError as error:
        raise _wrong(text, f"cannot be read: {error.strerror}", "look at its permissions") from None


def _regular_file(path: Path, text: str) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(child.name for child in path.glob("*.yaml"))
        what = f"it holds {', '.join(inside[:8])}" if inside else "it holds no .yaml file"
        raise _wrong(text, f"a folder, not a spec; {what}", "name one file")
    if path.exists():
        raise _wrong(text, "not a regular file", "name a YAML file")
    if path.is_symlink():
        raise _wrong(text, f"a link to {path.readlink()}, which is not there", "name a YAML file")
    raise _wrong(text, "no such file and no such shipped name", _near(path, Path(text)))


def _near(path: Path, named: Path) -> str:
    """The nearest names, of the catalog and in the folder that was meant, as a person would write them there."""
    near = difflib.get_close_matches(named.stem, all_names(), n=3)
    if path.parent.is_dir():
        children = (child for child in path.parent.iterdir() if child.suffix in (".yaml", ".yml"))
        files = sorted(child.name for child in children if child.is_file())
        near += [str(named.parent / name) for name in difflib.get_close_matches(path.name, files, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else "t2tbuild ls shows the shipped names"


def _wrong(name: str, message: str, hint: str) -> SpecError:
    return SpecError([Diagnostic(name, 0, 0, "", "file", message, hint)])
