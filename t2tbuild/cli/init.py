"""t2tbuild init: a spec of your own to start from."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, cast

import typer

from t2tbuild.cli.console import stdout
from t2tbuild.cli.options import Force, complete_name, one_of
from t2tbuild.cli.write import target_file, write_new
from t2tbuild.errors import InputError, SpecError

if TYPE_CHECKING:
    from t2tbuild.spec.document import Document


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
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="model, training or search; model when left out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model or the search.")] = None,
    image_size: Annotated[str | None, typer.Option(help="Pixels of a side, or [height, width].")] = None,
    num_classes: Annotated[str | None, typer.Option(help="Classes of the head.")] = None,
    depth: Annotated[str | None, typer.Option(help="Blocks of the backbone.")] = None,
    embed_dim: Annotated[str | None, typer.Option(help="Channels of a token.")] = None,
    num_heads: Annotated[str | None, typer.Option(help="Attention heads.")] = None,
    mlp_ratio: Annotated[str | None, typer.Option(help="Channels inside the MLP over channels of a token.")] = None,
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
    if file is not None:
        target_file(file, "spec.yaml", force=force)  # before any question
    if kind is None and asking:
        kind = _prompt("What is it: model, training or search?", "model")
    chosen = one_of(Kind, kind or "model", "--kind")
    _refuse_strange(chosen, answers)
    if asking:
        for key in [key for key in QUESTIONS[chosen] if key not in answers]:
            answers[key] = _ask(chosen, key, answers)
    _derive(answers)
    if chosen is Kind.SEARCH:
        _derive_base(answers)
    default = f"{Path(answers.get('name', chosen.value)).name}.yaml"
    target = target_file(file or Path(default), default, force=force)
    write_new(target, _sound_text(chosen, answers, target))
    command = shlex.join(["t2tbuild", NEXT[chosen], str(target)])
    stdout().print(f"{target}: written; next: {command}", soft_wrap=True)


def _prompt(question: str, default: str) -> str:
    try:
        answer: str = typer.prompt(question, default=default)
    except typer.Abort:  # Ctrl-C or Ctrl-D
        raise KeyboardInterrupt from None
    return answer


def _derive(answers: dict[str, str]) -> None:
    """Heads of 64 channels, or nearly, where a width was given and no heads."""
    width = answers.get("embed_dim", "")
    if "num_heads" not in answers and width.isdecimal() and 0 < int(width) <= 65536:
        heads = range(1, int(width) + 1)
        answers["num_heads"] = str(
            min((h for h in heads if int(width) % h == 0), key=lambda h: abs(int(width) / h - 64))
        )


def _derive_base(answers: dict[str, str]) -> None:
    """The largest shipped T2T-ViT within the budget, where the default base is over it and none was named."""
    if "model" in answers or "budget" not in answers:
        return
    from t2tbuild.nas.base import largest_shipped
    from t2tbuild.nas.budget import within
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.load import load_spec
    from t2tbuild.spec.model import ModelSpec

    try:
        budget = Budget.model_validate({"macs": answers["budget"]})
    except ValueError:
        return  # the spec is refused where it is checked, with the line
    default = load_spec(DEFAULT_MODEL).model
    if isinstance(default, ModelSpec) and not within(default, budget):
        answers["model"] = largest_shipped(budget) or DEFAULT_MODEL


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
    so_far = dict(answers)
    _derive(so_far)
    default = (DEFAULTS | so_far)[key]
    while True:
        answer = _prompt(QUESTIONS[kind][key], default)
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
    from t2tbuild.cli.validate import diagnose_search
    from t2tbuild.spec.load import check_text, load_spec
    from t2tbuild.spec.model import ModelSpec
    from t2tbuild.spec.modeline import with_modeline
    from t2tbuild.spec.root import SearchSpec
    from t2tbuild.spec.tokenizer import T2TTokenizer

    answers = DEFAULTS | answers | {"file": shlex.quote(str(target)).replace("\n", " ")}
    text = _template(kind).substitute(answers)
    text = with_modeline(text, "search" if kind is Kind.SEARCH else "spec", target)
    document = check_text(text, target)
    if kind is Kind.SEARCH and isinstance(document.spec, SearchSpec):
        base = load_spec(document.spec.search.base).model
        if isinstance(base, ModelSpec) and not isinstance(base.tokenizer, T2TTokenizer):  # it has no token attention
            text = "".join(line for line in text.splitlines(keepends=True) if "tokenizer.stages" not in line)
            document = check_text(text, target)
        list(diagnose_search(cast("Document[SearchSpec]", document)))
    return text
