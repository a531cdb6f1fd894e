"""t2tbuild export: a model with its weights, as a file that others read."""

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import stderr, stdout
from t2tbuild.cli.options import Overrides, SpecArgument
from t2tbuild.cli.spec import open_spec
from t2tbuild.errors import InputError
from t2tbuild.weights.formats import Format


def export(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option(help="The file to write; for timm, the folder.")],
    overrides: Overrides = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A checkpoint, safetensors, a run; else the run's or the spec's own."),
    ] = None,
    kind: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.SAFETENSORS,
) -> None:
    """Write a model with trained weights for others to read; what was written is run and held against torch.

    Example: t2tbuild export t2t_vit_14 --weights 81.5_T2T_ViT_14.pth.tar --format onnx --out t2t_vit_14.onnx
    """
    from t2tbuild import manifest
    from t2tbuild.spec.weights import LOCAL_DIR, Weights

    kind.require(out)
    document = open_spec(spec, overrides)
    loaded = document.spec
    source = loaded.weights
    if weights is not None:
        source = Weights(file=weights)
    elif (Path(spec).parent / "checkpoints").is_dir():
        newest, broken = manifest.latest_valid(Path(spec).parent / "checkpoints", ("model.safetensors",))
        for message in broken:
            stderr().print(f"broken, so an earlier checkpoint is exported: {message}", soft_wrap=True)
        source = Weights(file=str(newest or Path(spec).parent))  # of a run, what it learned, not what it started from
    if source is not None and not Path(source.file.removeprefix(LOCAL_DIR)).exists():
        raise InputError(f"{source.file}: no such file or folder of weights")

    import torch

    from t2tbuild.build import build_model
    from t2tbuild.weights.export import export_model
    from t2tbuild.weights.load import load_named

    torch.manual_seed(0)
    with document.placing():
        model = build_model(loaded.model)
    if source is None:
        stderr().print("no weights given: exporting fresh ones of seed 0, which have learned nothing", soft_wrap=True)
    else:
        stderr().print(f"weights of {source.file}", soft_wrap=True)
        load_named(model, source)
    difference = export_model(loaded.model, model, out, kind)
    stdout().print(
        f"{loaded.model.name}: written to {out} as {kind}; loaded again, its logits on two photographs are within "
        f"{difference:.1e} of torch's, relative",
        soft_wrap=True,
    )
