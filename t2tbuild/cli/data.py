"""t2tbuild data: describe a dataset before anything is trained."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr, stdout
from t2tbuild.cli.options import Json, complete_spec_name
from t2tbuild.cli.spec import is_override
from t2tbuild.cli.train_options import TrainImageSize, open_with_options
from t2tbuild.cli.write import check_plot_path, report_write_errors
from t2tbuild.errors import InputError

if TYPE_CHECKING:
    from t2tbuild.spec.data import Streamed


def data(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A folder of images, or a CSV file of images and labels.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. train.data.augment=null.")
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="A spec or run: the data, image size and augmentation of its training.",
            autocompletion=complete_spec_name,
        ),
    ] = None,
    image_size: TrainImageSize = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The contact sheet; by default DATA-sheet.png in this folder, without --json."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a dataset: splits, classes, sizes, unreadable images, near-duplicates across splits, a contact sheet.

    Every image is read once. Nothing is trained or changed.

    Example: t2tbuild data photos --sheet photos.png
    """
    check_plot_path("--sheet", sheet)
    if data is not None and is_override(data):
        overrides, data = [data, *(overrides or ())], None
    if data is None and spec is None:
        raise InputError("name the data, as in: t2tbuild data photos, or a spec that has data: --spec mine.yaml")
    document = open_with_options(spec or "t2t_vit_7", overrides or (), data, {"--image-size": image_size})

    from t2tbuild.spec.data import Streamed
    from t2tbuild.training.resolve import resolve, resolve_files

    with document.located_errors():
        resolved = resolve_files(resolve(document.spec))  # raises errors before torch is imported
        assert resolved.train is not None
        if not isinstance(resolved.train.data, Streamed):
            kind = resolved.train.data.kind
            raise InputError(f"{kind}: is built in and has no image files to describe; name a folder of images")

        from t2tbuild.cli.progress import ReadingProgress
        from t2tbuild.report.data_sheet import data_to_json, draw_sheet, print_data
        from t2tbuild.training.data.inspection import inspect

        with ReadingProgress(stderr()) as reading:
            found = inspect(resolved.train.data, reading.update)
    if as_json:
        print_json(data_to_json(found, resolved))
    else:
        print_data(stdout(), found, resolved)
        sheet = sheet or Path(f"{_short_name(resolved.train.data)}-sheet.png")
    readable = sum(found.splits[0].counts(len(found.classes)))
    if sheet is not None and not readable:
        stderr().print("no contact sheet, and nothing to train on: no training image can be read", soft_wrap=True)
    elif sheet is not None:
        with report_write_errors("--sheet", sheet):
            draw_sheet(found, resolved).savefig(sheet)
        stderr().print(f"written: {sheet}", soft_wrap=True)
    if data is not None and readable and not as_json:
        size = [] if image_size is None else ["--image-size", image_size]
        command = ["t2tbuild", "train", spec or "t2t_vit_7", *(overrides or ()), "--data", data, *size]
        stdout().print(f"next: {shlex.join(command)}", soft_wrap=True)


def _short_name(data: Streamed) -> str:
    """Return the name of the folder, file or dataset."""
    path = getattr(data, "file", None) or getattr(data, "root", None) or getattr(data, "name", "data")
    return Path(str(path)).absolute().stem or "data"
