"""t2tbuild export: a model with its weights, as a file that others read."""

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import stderr, stdout
from t2tbuild.weights.formats import Format


def export(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A shipped name such as t2t_vit_14, or a path.")],
    out: Annotated[Path, typer.Option(help="The file to write; for timm, the folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. model.image_size=384.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights: a checkpoint, safetensors, a run; else the spec's own.")
    ] = None,
    kind: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.SAFETENSORS,
) -> None:
    """Write a model with trained weights for others to read; what was written is run and held against torch.

    Example: t2tbuild export t2t_vit_14 --weights 81.5_T2T_ViT_14.pth.tar --format onnx --out t2t_vit_14.onnx
    """
    from t2tbuild.spec import load_spec

    kind.require_suffix(out)
    loaded = load_spec(spec, [*(overrides or ()), *([f"weights.file={weights.resolve()}"] if weights else [])])

    import torch

    from t2tbuild.build import build_model
    from t2tbuild.weights import export_model, load_weights

    torch.manual_seed(0)
    model = build_model(loaded.model)
    if loaded.weights is None:
        stderr().print("no weights given: exporting fresh ones of seed 0, which have learned nothing", soft_wrap=True)
    else:
        load_weights(model, loaded.weights.file, reset_head=loaded.weights.reset_head, grid=loaded.weights.grid)
    difference = export_model(loaded.model, model, out, kind)
    stdout().print(
        f"{loaded.model.name}: written to {out} as {kind}; loaded again, its logits on two photographs are within "
        f"{difference:.1e} of torch's, relative",
        soft_wrap=True,
    )
