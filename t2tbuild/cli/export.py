"""t2tbuild export: write a model with its weights for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import stderr, stdout
from t2tbuild.cli.options import Overrides, SpecArgument
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.weights import choose_weights
from t2tbuild.weights.formats import Format


def export(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option(help="The file to write; for timm, a folder.")],
    overrides: Overrides = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A checkpoint, safetensors or run; by default the run's or the spec's."),
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", help="Format of the file; by default that of its suffix.")
    ] = None,
) -> None:
    """Write a model with its weights for other programs, then load it again and compare its logits with torch's.

    Example: t2tbuild export t2t_vit_14 --weights 81.5_T2T_ViT_14.pth.tar --out t2t_vit_14.onnx
    """
    kind = kind or Format.of(out)
    kind.require(out)
    document = open_spec(spec, overrides)
    loaded = document.spec
    source = choose_weights(spec, loaded, weights)

    import torch

    from t2tbuild.build import build_model
    from t2tbuild.weights.export import export_model
    from t2tbuild.weights.load import load_spec_weights
    from t2tbuild.weights.resolve import describe_untrained

    torch.manual_seed(0)
    with document.located_errors():
        model = build_model(loaded.model)
    if source is None:
        stderr().print("no weights given: exporting a randomly initialised model (seed 0)", soft_wrap=True)
        if hint := describe_untrained(spec):
            stderr().print(hint, soft_wrap=True)
    else:
        stderr().print(f"weights of {source.file}", soft_wrap=True)
        load_spec_weights(model, source)
    difference = export_model(loaded.model, model, out, kind)
    stdout().print(
        f"{loaded.model.name}: written to {out} as {kind}; loaded again, its logits on two photographs differ from "
        f"torch's by {difference:.1e}, relative",
        soft_wrap=True,
    )
