"""Load the YAML data of this package, cached."""

import functools
from pathlib import Path
from typing import Any

import yaml


@functools.cache
def read_data(path: Path) -> dict[str, Any]:
    """Return the mapping in a data file."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast
    data: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # both are safe
    return data
