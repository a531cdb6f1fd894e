"""t2tbuild diagram: draw the architecture of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import ImageSize, Json, Overrides, SpecArgument, image_size_override
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.report.architecture import Architecture, Box


def diagram(
    spec: SpecArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write it as an SVG file.")] = None,
    image_size: ImageSize = None,
    as_json: Json = False,
) -> None:
    """Draw a model's architecture, from the image to the logits: grids, channels, tokens, parameters, MACs.

    Example: t2tbuild diagram t2t_vit_14 --out t2t_vit_14.svg
    """
    check_plot_path("--out", out, (".svg",))
    model = open_spec(spec, [*(overrides or ()), *image_size_override(image_size)]).spec.model

    from t2tbuild.spec.model import ModelSpec

    if not isinstance(model, ModelSpec):
        raise InputError(
            f"{model.name} is a timm model, whose architecture is not in its spec, so it cannot be drawn; "
            "t2tbuild summarize counts its parts"
        )
    from t2tbuild.report.architecture import build_architecture

    drawn = build_architecture(model)
    if as_json:
        print_json(_to_json(drawn))
    else:
        from t2tbuild.report.diagram_text import TextDiagram

        stdout().print(TextDiagram(drawn))
    if out is not None:
        from t2tbuild.report.diagram import write_diagram

        with report_write_errors("--out", out):
            write_diagram(model, out)
        stderr().print(f"written: {out}", soft_wrap=True)


def _to_json(drawn: Architecture) -> dict[str, Any]:
    inside = [
        {"join": str(branch.join), "boxes": [_box_to_json(box) for box in branch.boxes]} for branch in drawn.inside
    ]
    return {
        "name": drawn.name,
        "image_size": list(drawn.image),
        "in_chans": drawn.in_chans,
        "prefix_tokens": drawn.prefix_tokens,
        "blocks": drawn.blocks,
        "params": drawn.params,
        "trainable_params": drawn.trainable_params,
        "macs": drawn.macs,
        "boxes": [_box_to_json(box) for box in drawn.boxes],
        "inside": inside,
    }


def _box_to_json(box: Box) -> dict[str, Any]:
    window = box.window
    sides = {"patch_size": window.patch_size, "overlap": window.overlap} if window else None
    record = box._asdict() | {"kind": str(box.kind), "grid": box.grid and list(box.grid), "profile": list(box.profile)}
    return record | {"window": sides and sides | {"stride": window.stride, "padding": window.pad} if window else None}
