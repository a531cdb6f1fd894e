"""Detect incomplete or damaged folders by a manifest of SHA-256 sums, which is written last.

torch and safetensors read files with flipped bits without an error.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from t2tbuild.files import read_json, require_regular

NAME = "manifest.json"


def write_manifest(folder: Path, files: Sequence[str]) -> None:
    """Write the SHA-256 sums of `files` to the folder's manifest."""
    sums = {name: file_digest(folder / name) for name in files}
    (folder / NAME).write_text(json.dumps(sums, indent=1))


def verify(folder: Path, files: Sequence[str]) -> str:
    """Compare a folder with its manifest, which must contain `files`. Return what is wrong, or "" if nothing is."""
    try:
        manifest = read_json(folder / NAME)
        if any(Path(name).name != name for name in manifest):
            return "its manifest names files of other folders"
        changed = [
            name for name in {**dict.fromkeys(files), **manifest} if file_digest(folder / name) != manifest.get(name)
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"unfinished or unreadable ({error})"
    return f"{', '.join(changed)} changed since it was written" if changed else ""


def latest_valid(folder: Path, files: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the last valid subfolder by name, None if there is none, and the reasons against the later ones."""
    skipped: list[str] = []
    for child in reversed(children(folder)):
        reason = verify(child, files)
        if not reason:
            return child, skipped
        skipped.append(f"{child}: {reason}")
    return None, skipped


def children(folder: Path) -> list[Path]:
    """Return the subfolders that are not hidden, in order of their names; checkpoints are named in order of time."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def file_digest(path: Path) -> str:
    """Return the SHA-256 sum of a file in hexadecimal. Raises OSError, also for a FIFO or a device."""
    require_regular(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
