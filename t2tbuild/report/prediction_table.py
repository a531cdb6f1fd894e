"""Predictions as a table, as plain data, as CSV, and as a contact sheet."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.text import Text

from t2tbuild.files import safe_cell, short_path
from t2tbuild.report.contact_sheet import CAPTION_WIDTH, Captioned, contact_sheet, wrap_caption
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.units import plural
from t2tbuild.training.prediction import ClassScore, Prediction, Predictions

IMAGES_SHOWN = 50  # rows of the table
CLASSES_SHOWN = 10  # in the line of counts
SHEET_IMAGES = 48
NAMES_OF_SHEET = 3  # classes under an image of the sheet


def prediction_table(found: Predictions) -> RenderableType:
    """Return the classes of each image; of a single image a row for each class."""
    title = Text(
        f"{found.name}, {found.image_size[0]} x {found.image_size[1]} pixels; weights of {short_path(found.weights)}"
    )
    if len(found.images) == 1:
        return Group(title, _single(found.images[0]))
    table = ColumnTable(
        [Column("image"), Column("class"), Column("probability", right=True), Column("then", 1)],
        elsewhere="--json or --csv FILE",
    )
    for one in found.images[:IMAGES_SHOWN]:
        then = ", ".join(f"{shorten(score.name)} {_percent(score)}" for score in one.top[1:])
        table.add_row(short_path(printable(one.image)), shorten(one.best.name), _percent(one.best), then)
    lines: list[RenderableType] = [title, table]
    if len(found.images) > IMAGES_SHOWN:
        lines.append(Text(f"the first {IMAGES_SHOWN} of {len(found.images):,} images; --csv FILE or --json has all"))
    return Group(*lines, Text(describe_counts(found)))


def _single(one: Prediction) -> ColumnTable:
    table = ColumnTable([Column("class"), Column("probability", right=True)], title=short_path(printable(one.image)))
    for score in one.top:
        table.add_row(score.name, _percent(score))
    return table


def _percent(score: ClassScore) -> str:
    return f"{score.probability:.1%}"


def describe_counts(found: Predictions) -> str:
    """Return the number of images of each predicted class, the most frequent first."""
    counts = found.counts.most_common()
    shown = ", ".join(f"{shorten(name)} {count:,}" for name, count in counts[:CLASSES_SHOWN])
    more = f", and {len(counts) - CLASSES_SHOWN} more classes" if len(counts) > CLASSES_SHOWN else ""
    return f"{plural(len(found.images), 'image')}: {shown}{more}"


def predictions_json(found: Predictions) -> dict[str, Any]:
    """Return predictions as plain data, without pixels."""
    return {
        "model": found.name,
        "weights": found.weights,
        "runtime": found.runtime,
        "image_size": list(found.image_size),
        "num_classes": found.num_classes,
        "names_from": found.names_from,
        "images": [
            {
                "image": printable(one.image),
                "top": [
                    {"class": score.name, "label": score.label, "probability": score.probability} for score in one.top
                ],
            }
            for one in found.images
        ],
        "unreadable": [{"image": printable(one.name), "reason": one.reason} for one in found.unreadable],
    }


def predictions_csv(found: Predictions) -> str:
    """Return predictions as CSV: a row for each image, with its classes and their probabilities; then the unreadable.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    most = max(len(one.top) for one in found.images)
    columns = [
        f"{name}_{rank}" if rank > 1 else name for rank in range(1, most + 1) for name in ("class", "probability")
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *columns, "error"])
    for one in found.images:
        cells = [cell for score in one.top for cell in (safe_cell(score.name), f"{score.probability:.6f}")]
        writer.writerow([safe_cell(printable(one.image)), *cells, ""])
    for broken in found.unreadable:
        writer.writerow([safe_cell(printable(broken.name)), *[""] * len(columns), safe_cell(broken.reason)])
    return text.getvalue()


def printable(name: str) -> str:
    """Return a file name as text: what is not UTF-8 becomes U+FFFD, and control characters become spaces."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else " " for character in text)


def choose_for_sheet(total: int) -> Sequence[int]:
    """Return the indices of the images of a contact sheet: all, or of many evenly spaced ones."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(total, SHEET_IMAGES)).tolist()})


def draw_sheet(found: Predictions) -> Figure:
    """Return a contact sheet of the images that have pixels, as the model saw them, with their predictions."""
    drawn = [
        Captioned(one.pixels, list(_caption(one, found.names_from))) for one in found.images if one.pixels is not None
    ]
    total = len(found.images)
    which = plural(total, "image") if len(drawn) == total else f"{len(drawn)} of {total:,} images"
    return contact_sheet(
        drawn, f"{found.name} on {which}, as the model sees them\nweights of {short_path(found.weights)}"
    )


def _caption(one: Prediction, names_from: str) -> Iterator[str]:
    kind = "class " if names_from == "numbers" else ""
    yield shorten(printable(one.image).rpartition("/")[2], CAPTION_WIDTH)
    yield from wrap_caption(f"{_percent(one.best)} {kind}{one.best.name}")
    for score in one.top[1:NAMES_OF_SHEET]:
        yield shorten(f"{_percent(score)} {kind}{score.name}", CAPTION_WIDTH)
