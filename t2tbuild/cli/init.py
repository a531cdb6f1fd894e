"""t2tbuild init: a spec of your own to start from."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from t2tbuild.cli.console import stdout
from t2tbuild.cli.options import Force, complete_name
from t2tbuild.cli.write import write_new


class Kind(StrEnum):
    """What the file is to say."""

    MODEL = "model"
    TRAINING = "training"
    SEARCH = "search"


NEXT = {Kind.MODEL: "summarize", Kind.TRAINING: "train", Kind.SEARCH: "search"}
DEFAULT_MODEL = "t2t_vit_14"
DEFAULTS = {
    "name": "mine",
    "image_size": "224",
    "num_classes": "1000",
    "depth": "14",
    "embed_dim": "384",
    "num_heads": "6",
    "mlp_ratio": "3",
    "model": DEFAULT_MODEL,
    "epochs": "15",
    "budget": "5G",
}
QUESTIONS = {
    Kind.MODEL: {
        "name": "Name of the model",
        "image_size": "Image size in pixels, or [height, width]",
        "num_classes": "Number of classes",
        "depth": "Depth: blocks of the backbone",
        "embed_dim": "Width: channels of a token",
        "num_heads": "Attention heads; they divide the width",
    },
    Kind.TRAINING: {"model": "Name or path of the model spec", "epochs": "Epochs"},
    Kind.SEARCH: {"name": "Name of the search", "model": "Base: name or path of a model spec", "budget": "MACs budget"},
}


def init(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The file to write; else NAME.yaml.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="What to write; model when left out.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model or the search.")] = None,
    image_size: Annotated[str | None, typer.Option(help="Pixels of a side, or [height, width].")] = None,
    num_classes: Annotated[str | None, typer.Option(help="Classes of the head.")] = None,
    depth: Annotated[str | None, typer.Option(help="Blocks of the backbone.")] = None,
    embed_dim: Annotated[str | None, typer.Option(help="Channels of a token.")] = None,
    num_heads: Annotated[str | None, typer.Option(help="Attention heads.")] = None,
    mlp_ratio: Annotated[str | None, typer.Option(help="Hidden width of the MLP over the width.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Spec to train, or base of the search.", autocompletion=complete_name)
    ] = None,
    epochs: Annotated[str | None, typer.Option(help="Passes over the training images.")] = None,
    budget_macs: Annotated[str | None, typer.Option(metavar="COUNT", help="Budget of a search: 5G, 500M.")] = None,
    force: Force = False,
) -> None:
    """Write a spec to start from. On a terminal a few questions are asked; elsewhere the options answer them.

    Example: t2tbuild init mine.yaml --num-classes 10 --image-size 64
    """
    given = {
        "name": name,
        "image_size": image_size,
        "num_classes": num_classes,
        "depth": depth,
        "embed_dim": embed_dim,
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio,
        "model": model,
        "epochs": epochs,
        "budget": budget_macs,
    }
    asking = sys.stdin.isatty() and sys.stdout.isatty()
    if kind is None:
        kind = (
            Kind(typer.prompt("What is it? model, training or search", default="model", type=Kind))
            if asking
            else Kind.MODEL
        )
    answers = {key: value for key, value in given.items() if value is not None}
    for key, question in QUESTIONS[kind].items():
        if asking and key not in answers:
            answers[key] = typer.prompt(question, default=DEFAULTS[key])
    stem = answers.get("name", kind.value)
    target = file or Path(f"{Path(stem).name}.yaml")
    write_new(target, _sound_text(kind, DEFAULTS | answers, target), force=force)
    stdout().print(f"{target}: written; next: t2tbuild {NEXT[kind]} {target}", soft_wrap=True)


def _sound_text(kind: Kind, answers: dict[str, str], target: Path) -> str:
    """The text of the spec. Raises SpecError when it would not be sound."""
    from t2tbuild.spec.load import check_text
    from t2tbuild.spec.modeline import with_modeline

    template = Template((files("t2tbuild.spec") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8"))
    text = template.substitute(answers | {"file": str(target)})
    text = with_modeline(text, "search" if kind is Kind.SEARCH else "spec", target)
    check_text(text, target)
    return text
