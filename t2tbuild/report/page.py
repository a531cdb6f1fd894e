"""What the pages share: one HTML file with its style, scripts and data, that opens from a disk without a network."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

SHARED = ("dom.js", "axes.js", "explore.js", "lines.js", "copy.js")
"""Scripts of every page, in their order."""


def render(template: str, data: Mapping[str, Any], scripts: Sequence[str], **shown: Any) -> str:
    """A page from its template; the scripts read `data`, numbers that are none as null."""
    page = _environment().get_template(template)
    return page.render(data=_embedded(data), scripts=[*SHARED, *scripts], **shown)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("t2tbuild.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    loader = environment.loader
    assert loader is not None
    environment.globals["inline"] = lambda name: Markup(loader.get_source(environment, name)[0])  # noqa: S704  # ours
    environment.filters |= {"number": _number, "interval": _interval}
    return environment


def _embedded(data: Mapping[str, Any]) -> Markup:
    """JSON that may stand within a script element."""
    text = json.dumps(finite(data), separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # nothing in it can end the element


def command_of(environment: Mapping[str, Any]) -> str:
    """The command that a run was started with, as a shell takes it."""
    return shlex.join(["t2tbuild", *environment["command"][1:]])


def finite(value: Any) -> Any:
    """Plain data with None for what JSON has no number for: NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.2f}"
    return f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
