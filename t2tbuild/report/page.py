"""HTML pages that are single files: style, scripts and data are embedded, and no network is needed."""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from t2tbuild.files import nan_to_none

COMMON_SCRIPTS = ("dom.js", "axes.js", "explore.js", "lines.js", "copy.js")
"""Scripts of every page, in order."""


def render(template: str, data: Mapping[str, Any], scripts: Sequence[str], **shown: Any) -> str:
    """Render a template. `data` is embedded as JSON for the scripts, `shown` are variables of the template."""
    page = _environment().get_template(template)
    return page.render(data=_to_script_json(data), scripts=[*COMMON_SCRIPTS, *scripts], **shown)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("t2tbuild.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    loader = environment.loader
    assert loader is not None
    environment.globals["inline"] = lambda name: Markup(loader.get_source(environment, name)[0])  # noqa: S704  # a file of this package
    environment.filters |= {"number": _number, "interval": _interval}
    return environment


def _to_script_json(data: Mapping[str, Any]) -> Markup:
    """Return data as JSON that is safe inside a script element; NaN and infinities become null."""
    text = json.dumps(nan_to_none(data), separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # "<" is escaped


def format_command(environment: Mapping[str, Any]) -> str:
    """Return the command that started a run, quoted for a shell."""
    return shlex.join(["t2tbuild", *environment["command"][1:]])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.2f}"
    return f"{value['value']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
