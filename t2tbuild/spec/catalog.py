"""The specs that ship with t2tbuild, found by name: t2t_vit_14, deep_narrow."""

import difflib
from pathlib import Path
from typing import Literal

from t2tbuild.errors import InputError

Kind = Literal["specs", "search"]

MAX_NAME = 255  # bytes of a file name on the usual file systems

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = _PACKAGE / "shipped"  # in the wheel; in a checkout the folders stand beside the package
_ROOT = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent


def names(kind: Kind) -> list[str]:
    """Names of the shipped specs, sorted."""
    return sorted(path.stem for path in (_ROOT / kind).glob("*.yaml"))


def find(name_or_path: str | Path, kind: Kind, beside: Path | None = None) -> Path:
    """The file that a name or a path means: a shipped name, else a path, seen from `beside` if that is given.

    Raises InputError that names the nearest shipped specs and files.
    """
    text = str(name_or_path)
    if not text.strip():
        raise InputError(f"the name is empty; shipped {kind}: {', '.join(names(kind))}")
    if text in names(kind):
        return _ROOT / kind / f"{text}.yaml"
    path = (beside or Path()) / text
    if len(path.name) > MAX_NAME or "\0" in text:
        raise InputError(f"{text[:40]!r}...: not a file name")
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(child.name for child in path.glob("*.yaml"))
        what = f"it holds {', '.join(inside[:8])}" if inside else "it holds no .yaml file"
        raise InputError(f"{text}: a folder, not a spec; {what}")
    if path.exists():
        raise InputError(f"{text}: not a regular file")
    near = difflib.get_close_matches(Path(text).stem, names(kind), n=3)
    near += difflib.get_close_matches(path.name, [child.name for child in path.parent.glob("*.yaml")], n=3)
    known = f"did you mean {' or '.join(near)}?" if near else f"shipped {kind}: {', '.join(names(kind))}"
    raise InputError(f"{text}: no such file and no such shipped name; {known}")
