"""A model's architecture as a self-contained SVG. Torch-free."""

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from t2tbuild.files import atomic_write
from t2tbuild.report.architecture import COLOURS, build_architecture
from t2tbuild.report.diagram_layout import layout_drawing
from t2tbuild.report.svg_primitives import format_coordinate
from t2tbuild.spec.extension.registry import without_forward
from t2tbuild.spec.model import AnyModel, ModelSpec


def diagram_svg(model: ModelSpec) -> str:
    """Return the architecture of a model as SVG text, drawn from its spec; costs are those of `predict_cost`.

    The SVG has no ids, so that a page may contain several; its style applies to classes inside `.t2t-diagram`.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["coordinate"] = format_coordinate
    text = (files("t2tbuild.report") / "templates" / "diagram.svg.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(drawing=layout_drawing(build_architecture(model)), kinds=COLOURS)


def write_diagram(model: AnyModel, file: Path) -> None:
    """Write `diagram_svg` into a file. Raises OSError.

    A timm model, and a node without a symbolic forward, have no diagram; then nothing is written.
    """
    if isinstance(model, ModelSpec) and not without_forward(model):
        atomic_write(file, diagram_svg(model))
