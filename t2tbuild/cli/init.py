"""t2tbuild init: a spec of your own to start from."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from t2tbuild.cli.console import stdout
from t2tbuild.cli.options import Force, complete_name
from t2tbuild.cli.write import target_file, write_new
from t2tbuild.errors import InputError, SpecError


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
FIELDS = {"model": ("base",), "budget": ("macs",)}  # what an answer is called in the spec, where its name differs
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
    answers = {key: value for key, value in given.items() if value is not None}
    asking = sys.stdin.isatty() and sys.stdout.isatty()
    if kind is None and asking:
        kind = Kind(typer.prompt("What is it? model, training or search", default="model", type=Kind))
    kind = kind or Kind.MODEL
    _refuse_strange(kind, answers)
    if asking:
        for key in [key for key in QUESTIONS[kind] if key not in answers]:
            answers[key] = _ask(kind, key, answers)
    default = f"{Path(answers.get('name', kind.value)).name}.yaml"
    target = target_file(file or Path(default), default)
    write_new(target, _sound_text(kind, answers, target), force=force)
    stdout().print(f"{target}: written; next: t2tbuild {NEXT[kind]} {target}", soft_wrap=True)


def _template(kind: Kind) -> Template:
    return Template((files("t2tbuild.spec") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8"))


def _refuse_strange(kind: Kind, answers: dict[str, str]) -> None:
    """Raises InputError for an option that this kind of file has no place for."""
    for key in answers:
        if key not in _template(kind).get_identifiers():
            option = {"budget": "--budget-macs"}.get(key, f"--{key.replace('_', '-')}")
            raise InputError(f"{option} has no place in a {kind} spec; leave it out, or choose another --kind")


def _ask(kind: Kind, key: str, answers: dict[str, str]) -> str:
    """Ask a question until its answer is sound, as far as the answers so far can tell."""
    while True:
        answer: str = typer.prompt(QUESTIONS[kind][key], default=DEFAULTS[key])
        try:
            _sound_text(kind, answers | {key: answer}, Path("spec.yaml"))
        except SpecError as error:
            wrong = [one for one in error.diagnostics if one.path.rpartition(".")[2] in (key, *FIELDS.get(key, ()))]
            if wrong:
                stdout().print(f"{wrong[0].message}; {wrong[0].hint}", soft_wrap=True)
                continue
        return answer


def _sound_text(kind: Kind, answers: dict[str, str], target: Path) -> str:
    """The text of the spec. Raises SpecError when it would not be sound."""
    from t2tbuild.spec.load import check_text
    from t2tbuild.spec.modeline import with_modeline

    text = _template(kind).substitute(DEFAULTS | answers | {"file": shlex.quote(str(target)).replace("\n", " ")})
    text = with_modeline(text, "search" if kind is Kind.SEARCH else "spec", target)
    check_text(text, target)
    return text
