"""Arguments and options that several commands share."""

import difflib
import re
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from t2tbuild.cli.console import OutputFormat, stderr
from t2tbuild.errors import InputError
from t2tbuild.spec.units import UnitError, format_count, parse_amount, parse_count

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def parse_choice(choices: type[E], text: str, option: str) -> E:
    """Return the choice with the given name.

    Raises InputError that lists the choices and suggests the nearest one.
    """
    if text in set(choices):
        return choices(text)
    near = difflib.get_close_matches(text, list(choices), n=1)
    suggestion = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{option}: must be one of {', '.join(choices)}, got {text!r:.60}{suggestion}")


def parse_count_option(option: str, text: str | None) -> int | None:
    """Parse the count of an option, such as 5G. Raises InputError that names the option."""
    try:
        return None if text is None else parse_count(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def parse_counts_option(option: str, text: str) -> tuple[int, ...]:
    """Parse the counts of an option, such as 1G,2G,5G, and return them in rising order.

    Raises InputError that names the option, where one is no count or is given twice.
    """
    counts = sorted(parse_count_option(option, one.strip()) or 0 for one in text.split(","))
    for below, above in pairwise(counts):
        if below == above:
            raise InputError(f"{option}: {text!r:.60} names {format_count(below)} twice; remove one of the two")
    return tuple(counts)


def parse_amount_option(option: str, text: str | None, example: str) -> int | None:
    """Parse the bytes, bytes/s or FLOP/s of an option: 24G, 24GB, 24GiB, 312T, 312TFLOPS, 1.5TB/s.

    Raises InputError that names the option and shows the example.
    """
    try:
        return None if text is None else parse_amount(text)
    except UnitError as error:
        raise InputError(f"{option}: {error.message}; write for example {example}") from None


def image_size_override(text: str | None) -> list[str]:
    """Convert --image-size to overrides of a spec: 192x256 becomes model.image_size=[192, 256], None no override.

    Raises InputError unless the text is one or two side lengths.
    """
    if text is None:
        return []
    match = re.fullmatch(r"([0-9]+)(?: ?[xX×] ?([0-9]+))?", text.strip(), re.ASCII)  # noqa: RUF001
    if match is None:
        raise InputError(f"--image-size: {text!r:.60} is not an image size; write for example 384, or 192x256")
    return [f"model.image_size={f'[{match[1]}, {match[2]}]' if match[2] else match[1]}"]


def complete_spec_name(incomplete: str) -> list[str]:
    """Return the shipped names and YAML files that start with what has been typed, for shell completion."""
    from t2tbuild.spec import catalog

    folder, slash, _ = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        found = []
    inside = [f"{path.name}/" if path.is_dir() else path.name for path in found]
    files = [f"{folder}{slash}{name}" for name in inside if name.endswith(("/", *catalog.SPEC_SUFFIXES))]
    return [name for name in [*catalog.all_names(), *files] if name.startswith(incomplete)]


def deprecated_option(old: str, old_value: T | None, new: str, new_value: T | None) -> T | None:
    """Return the value of a renamed option, and print a warning if the old name was used.

    Raises InputError if both names were used.
    """
    if not old_value:
        return new_value
    if new_value:
        raise InputError(f"{old} is the old name of {new}; write {new} only")
    stderr().print(f"warning: {old} is deprecated and will be removed; write {new}", soft_wrap=True)
    return old_value


def _record_json(context: typer.Context, as_json: bool) -> bool:
    context.ensure_object(OutputFormat).as_json = as_json
    return as_json


SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A shipped name such as t2t_vit_14, a path, or a run.", autocompletion=complete_spec_name
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. model.image_size=384.")
]
DATA_HELP = "A folder of images, a CSV file of images and labels, or digits, cifar10, cifar100."
DataOption = Annotated[str | None, typer.Option(metavar="DATA", help=DATA_HELP)]
BudgetMacs = Annotated[
    str | None, typer.Option(metavar="COUNT", help="Maximum multiply-adds of a model: 5G, 4.8G, 500M, 5e9.")
]
BudgetParams = Annotated[str | None, typer.Option(metavar="COUNT", help="Maximum parameters of a model: 22M, 5e6.")]
Json = Annotated[bool, typer.Option("--json", callback=_record_json, help="Print JSON; errors too, as a list.")]
ImageSize = Annotated[
    str | None, typer.Option(metavar="SIDE", help="Another image size: 384, or 192x256 (height x width).")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one, else the CPU."),
]
