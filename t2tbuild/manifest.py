"""Folders that know whether they are whole: a manifest of SHA-256 sums, written last.

torch and safetensors both read flipped bits without complaint.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

NAME = "manifest.json"


def write_manifest(folder: Path, files: Sequence[str]) -> None:
    """Write the sums of `files` into the folder's manifest."""
    sums = {name: _sha256(folder / name) for name in files}
    (folder / NAME).write_text(json.dumps(sums, indent=1))


def verify(folder: Path, files: Sequence[str]) -> str:
    """What is wrong with the folder by its manifest; empty when `files` and all else in it are as they were written."""
    try:
        manifest = json.loads((folder / NAME).read_text())
        if any(Path(name).name != name for name in manifest):
            return "its manifest names files elsewhere"
        wrong = [name for name in {**dict.fromkeys(files), **manifest} if _sha256(folder / name) != manifest.get(name)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"unfinished or unreadable ({error})"
    return f"{', '.join(wrong)} changed since it was written" if wrong else ""


def latest_valid(folder: Path, files: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The last of a folder's visible folders by name whose `files` are sound, and what is wrong with those after it."""
    broken: list[str] = []
    for child in reversed(children(folder)):
        wrong = verify(child, files)
        if not wrong:
            return child, broken
        broken.append(f"{child}: {wrong}")
    return None, broken


def children(folder: Path) -> list[Path]:
    """The folder's visible folders by name, which is the order in which checkpoints were written."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
