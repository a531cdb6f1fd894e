"""The arguments and options that commands share."""

import difflib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from t2tbuild.cli import console
from t2tbuild.errors import InputError
from t2tbuild.spec.units import parse_count

_AMOUNT = re.compile(
    r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?) ?([KMGTPE]?)(i?)(?:B|B/s|FLOPS|FLOP/s)?", re.ASCII | re.IGNORECASE
)
E = TypeVar("E", bound=StrEnum)


def one_of(choices: type[E], text: str, option: str) -> E:
    """The choice that a text names. Raises InputError that lists the choices, the nearest named."""
    if text in set(choices):
        return choices(text)
    near = difflib.get_close_matches(text, list(choices), n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise InputError(f"{option}: must be one of {', '.join(choices)}, got {text!r:.60}{meant}")


def count_option(option: str, text: str | None) -> int | None:
    """The count that an option gives, such as 5G. Raises InputError that names the option."""
    try:
        return None if text is None else parse_count(text)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


def amount_option(option: str, text: str | None, example: str) -> int | None:
    """The bytes, bytes a second or FLOP/s that an option gives: 24G, 24GB, 24GiB, 312T, 312TFLOPS, 1.5TB/s.

    Raises InputError that names the option and shows the example.
    """
    if text is None:
        return None
    match = _AMOUNT.fullmatch(text.strip())
    amount = (
        float(match[1]) * (1024 if match[3] else 1000) ** " KMGTPE".index(match[2].upper() or " ") if match else 0.0
    )
    if not 1 <= amount < 1e21:
        raise InputError(f"{option}: {text!r:.60} is no amount from 1 to 1e21; write for example {example}")
    return int(amount)


def image_override(text: str | None) -> list[str]:
    """The override of a spec that --image-size gives: of 192x256, model.image_size=[192, 256]; none where it is None.

    Raises InputError for what is neither one nor two sides.
    """
    if text is None:
        return []
    match = re.fullmatch(r"([0-9]+)(?: ?[xX×] ?([0-9]+))?", text.strip(), re.ASCII)  # noqa: RUF001
    if match is None:
        raise InputError(f"--image-size: {text!r:.60} is no image's size; write for example 384, or 192x256")
    return [f"model.image_size={f'[{match[1]}, {match[2]}]' if match[2] else match[1]}"]


def complete_name(incomplete: str) -> list[str]:
    """Shipped names and YAML files that begin as what has been typed, for the shell."""
    from t2tbuild.spec import catalog

    folder, slash, _ = incomplete.rpartition("/")
    try:
        found = sorted(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        found = []
    inside = [f"{path.name}/" if path.is_dir() else path.name for path in found]
    files = [f"{folder}{slash}{name}" for name in inside if name.endswith(("/", ".yaml", ".yml"))]
    return [name for name in [*catalog.all_names(), *files] if name.startswith(incomplete)]


SpecArgument = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A shipped name such as t2t_vit_14, or a path.", autocompletion=complete_name),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. model.image_size=384.")
]
BudgetMacs = Annotated[
    str | None, typer.Option(metavar="COUNT", help="Most multiply-adds of a model: 5G, 4.8G, 500M, 5e9.")
]
BudgetParams = Annotated[str | None, typer.Option(metavar="COUNT", help="Most parameters: 22M, 5e6.")]
Json = Annotated[bool, typer.Option("--json", callback=console.want_json, help="Print JSON; mistakes too, as a list.")]
ImageSize = Annotated[str | None, typer.Option(metavar="SIDE", help="Another image: 384, or 192x256 (height x width).")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
