"""t2tbuild init: write an annotated spec to start from."""

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
from t2tbuild.cli.options import Force, complete_spec_name, parse_choice
from t2tbuild.cli.write import resolve_target, write_file
from t2tbuild.errors import InputError, SpecError

if TYPE_CHECKING:
    from t2tbuild.spec.document import Document


class Kind(StrEnum):
    """Kinds of spec files."""

    MODEL = "model"
    TRAINING = "training"
    SEARCH = "search"


NEXT_COMMAND = {Kind.MODEL: "summarize", Kind.TRAINING: "train", Kind.SEARCH: "search"}
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
FIELDS = {"model": ("base",), "budget": ("macs",)}  # field names that differ from the name of the answer
QUESTIONS = {
    Kind.MODEL: {
        "name": "Name of the model",
        "image_size": "Image size in pixels, or [height, width]",
        "num_classes": "Number of classes",
        "depth": "Depth: number of blocks",
        "embed_dim": "Width: channels per token",
        "num_heads": "Attention heads; must divide the width",
    },
    Kind.TRAINING: {"model": "Name or path of the model spec", "epochs": "Epochs"},
    Kind.SEARCH: {"name": "Name of the search", "model": "Base: name or path of a model spec", "budget": "MACs budget"},
}


def init(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The file to write; by default NAME.yaml.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="model (the default), training or search.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model or the search.")] = None,
    image_size: Annotated[str | None, typer.Option(help="Side length in pixels, or [height, width].")] = None,
    num_classes: Annotated[str | None, typer.Option(help="Number of classes.")] = None,
    depth: Annotated[str | None, typer.Option(help="Number of blocks.")] = None,
    embed_dim: Annotated[str | None, typer.Option(help="Channels per token.")] = None,
    num_heads: Annotated[str | None, typer.Option(help="Attention heads.")] = None,
    mlp_ratio: Annotated[str | None, typer.Option(help="Hidden width of the MLP, as a multiple of embed_dim.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Spec to train, or base of the search.", autocompletion=complete_spec_name)
    ] = None,
    epochs: Annotated[str | None, typer.Option(help="Passes over the training images.")] = None,
    budget_macs: Annotated[str | None, typer.Option(metavar="COUNT", help="Budget of a search: 5G, 500M.")] = None,
    force: Force = False,
) -> None:
    """Write a spec to start from. On a terminal, init asks for the values; elsewhere, pass them as options.

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
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if file is not None:
        resolve_target(file, "spec.yaml", force=force)  # raises before the first question
    chosen = _prompt_kind() if kind is None and interactive else parse_choice(Kind, kind or "model", "--kind")
    _check_options(chosen, answers)
    if interactive:
        for key in [key for key in QUESTIONS[chosen] if key not in answers]:
            answers[key] = _prompt_valid(chosen, key, answers)
    _set_num_heads(answers)
    if chosen is Kind.SEARCH:
        _set_base(answers)
    default = f"{Path(answers.get('name', chosen.value)).name}.yaml"
    target = resolve_target(file or Path(default), default, force=force)
    write_file(target, _render_spec(chosen, answers, target))
    command = shlex.join(["t2tbuild", NEXT_COMMAND[chosen], str(target)])
    stdout().print(f"{target}: written; next: {command}", soft_wrap=True)


def _prompt(question: str, default: str) -> str:
    try:
        answer: str = typer.prompt(question, default=default)
    except typer.Abort:  # Ctrl-C or Ctrl-D
        raise KeyboardInterrupt from None
    return answer


def _prompt_kind() -> Kind:
    """Ask for the kind of spec until the answer is valid."""
    while True:
        try:
            return parse_choice(Kind, _prompt("Kind of spec: model, training or search", "model"), "kind")
        except InputError as error:
            stdout().print(str(error), soft_wrap=True)


def _set_num_heads(answers: dict[str, str]) -> None:
    """Set num_heads so that heads have 64 channels or nearly, if the width is given and num_heads is not."""
    width = answers.get("embed_dim", "")
    if "num_heads" not in answers and width.isdecimal() and 0 < int(width) <= 65536:
        heads = range(1, int(width) + 1)
        answers["num_heads"] = str(
            min((h for h in heads if int(width) % h == 0), key=lambda h: abs(int(width) / h - 64))
        )


def _set_base(answers: dict[str, str]) -> None:
    """Set the base to the largest shipped T2T-ViT within the budget, if none is given and the default is over it."""
    if "model" in answers or "budget" not in answers:
        return
    from t2tbuild.cost.budget import is_within
    from t2tbuild.nas.base import find_largest_shipped
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.load import load_spec
    from t2tbuild.spec.model import ModelSpec

    try:
        budget = Budget.model_validate({"macs": answers["budget"]})
    except ValueError:
        return  # validation of the spec reports it with its line
    default = load_spec(DEFAULT_MODEL).model
    if isinstance(default, ModelSpec) and not is_within(default, budget):
        answers["model"] = find_largest_shipped(budget) or DEFAULT_MODEL


def _template(kind: Kind) -> Template:
    return Template((files("t2tbuild.spec") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8"))


def _check_options(kind: Kind, answers: dict[str, str]) -> None:
    """Raise InputError for an option that this kind of spec does not use."""
    for key in answers:
        if key not in _template(kind).get_identifiers():
            option = {"budget": "--budget-macs"}.get(key, f"--{key.replace('_', '-')}")
            raise InputError(f"{option} is not used in a {kind} spec; leave it out, or choose another --kind")


def _prompt_valid(kind: Kind, key: str, answers: dict[str, str]) -> str:
    """Ask a question until its answer is valid together with the answers so far."""
    so_far = dict(answers)
    _set_num_heads(so_far)
    default = (DEFAULTS | so_far)[key]
    while True:
        answer = _prompt(QUESTIONS[kind][key], default)
        try:
            _render_spec(kind, answers | {key: answer}, Path("spec.yaml"))
        except SpecError as error:
            errors = [one for one in error.diagnostics if one.path.rpartition(".")[2] in (key, *FIELDS.get(key, ()))]
            if errors:
                stdout().print(f"{errors[0].message}; {errors[0].hint}", soft_wrap=True)
                continue
        return answer


def _render_spec(kind: Kind, answers: dict[str, str], target: Path) -> str:
    """Return the text of the spec. Raises SpecError if it is not valid."""
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
        if isinstance(base, ModelSpec) and not isinstance(base.tokenizer, T2TTokenizer):  # without token attention
            text = "".join(line for line in text.splitlines(keepends=True) if "tokenizer.stages" not in line)
            document = check_text(text, target)
        list(diagnose_search(cast("Document[SearchSpec]", document)))
    return text
