"""A model's architecture as an SVG that needs nothing from elsewhere. Torch-free."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from t2tbuild.files import atomic_write
from t2tbuild.report.architecture import COLOURS, architecture
from t2tbuild.report.diagram_layout import place
from t2tbuild.report.svg_primitives import number
from t2tbuild.spec.model import AnyModel, ModelSpec


def diagram_svg(model: ModelSpec) -> str:
    """The architecture of a model, drawn from its spec, as the text of an SVG; figures are those of `predict_cost`.

    It has no ids, so that several may stand in one page; what it looks like is told by classes below `.t2t-diagram`.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["number"] = number
    text = (files("t2tbuild.report") / "templates" / "diagram.svg.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(picture=place(architecture(model)), kinds=COLOURS)


def write_diagram(model: AnyModel, file: Path) -> None:
    """Write `diagram_svg` into a file; a model of timm, whose insides no spec says, has none. Raises OSError."""
    if isinstance(model, ModelSpec):
        atomic_write(file, diagram_svg(model))
