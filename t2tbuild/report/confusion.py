"""The confusion matrix and the worst mistakes of an evaluation, as tables and as pictures."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from t2tbuild.files import escape_controls, safe_cell
from t2tbuild.report.contact_sheet import Captioned, contact_sheet, wrap_caption
from t2tbuild.report.figure import GREY, new_figure, save_figure
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.units import plural
from t2tbuild.training.evaluate import WeightsEvaluation
from t2tbuild.training.mistakes import Mistake

CLASSES_DRAWN = 30
"""Largest number of classes of the picture of a confusion matrix."""

MATRIX_CLASSES = 2000
"""Largest number of classes whose matrix is written whole; of more, the pairs that occur."""

NAME_LENGTH = 24  # characters of a name beside the matrix
LARGE_NUMBERS = 20  # classes up to which the numbers are larger

COLOURS = "\nimages of each class by prediction: right ones blue, mistakes orange"

CONFUSION_CSV, CONFUSION_PNG = "confusion.csv", "confusion.png"
MISTAKES_CSV, MISTAKES_PNG = "mistakes.csv", "mistakes.png"


def write_evaluation(score: WeightsEvaluation, folder: Path) -> list[Path]:
    """Write confusion.csv, confusion.png, mistakes.csv and mistakes.png into a folder, and return their paths.

    Raises OSError if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in (CONFUSION_CSV, CONFUSION_PNG, MISTAKES_CSV, MISTAKES_PNG)]
    _write_confusion(score, files[0])
    save_figure(draw_confusion(score), files[1])
    save_figure(draw_mistakes(score), files[3])
    with files[2].open("w", encoding="utf-8", newline="") as stream:
        rows = [
            (*map(safe_cell, (escape_controls(one.image), one.label, one.predicted)), f"{one.confidence:.4f}")
            for one in score.mistakes
        ]
        csv.writer(stream).writerows([("image", "class", "predicted", "confidence"), *rows])
    return files


def draw_confusion(score: WeightsEvaluation) -> Figure:
    """Return a figure of the confusion matrix: images by class (row) and prediction (column), coloured by their share.

    Right predictions are blue, mistakes orange. Of more than 30 classes it has those that take part in most confusions.
    """
    drawn = _classes_to_draw(score.counts, len(score.classes))
    matrix = np.array([[score.counts.get((label, other), 0) for other in drawn] for label in drawn], dtype=int)
    totals: Counter[int] = Counter()
    for (label, _), count in score.counts.items():
        totals[label] += count
    images = np.array([[max(1, totals[label])] for label in drawn])
    names = [shorten(score.names[label], NAME_LENGTH) for label in drawn]
    side = max(3.0, 0.36 * len(drawn))
    margin = 0.085 * max(map(len, names))
    figure = new_figure(max(4.5, side + margin + 0.5), side + margin + 1.1)
    axes = figure.subplots()
    shares = matrix / images
    is_right = np.eye(len(drawn), dtype=bool)
    coloured = np.where(is_right[..., None], colormaps["Blues"](shares), colormaps["Oranges"](shares))
    axes.imshow(np.where(matrix[..., None] > 0, coloured, 1.0))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="class")
    for row, column in np.argwhere(matrix > 0):
        colour, size = "white" if shares[row, column] > 0.6 else "black", 8 if len(drawn) <= LARGE_NUMBERS else 6
        axes.text(column, row, matrix[row, column], ha="center", va="center", size=size, color=colour)
    axes.set_xticks(np.arange(len(drawn) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(drawn) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=GREY, linewidth=0.3)
    axes.tick_params(which="minor", length=0)
    part, classes = "", len(score.classes)
    if len(drawn) < classes:
        part = f"\nthe {len(drawn)} classes with most confusions of {classes:,}"
    figure.suptitle(f"{_title(score)}, top-1 {score.top1:.1%}{part}{COLOURS}", fontsize=9)
    return figure


def draw_mistakes(score: WeightsEvaluation) -> Figure:
    """Return a contact sheet of the most confident wrong predictions, as the model saw the images."""
    mistakes = score.mistakes
    if not mistakes:
        figure = new_figure(5, 1)
        figure.suptitle(f"{_title(score)}\nno mistakes", fontsize=9)
        return figure
    total = sum(count for (label, other), count in score.counts.items() if label != other)
    which = f"{plural(total, 'mistake')}, the most confident first"
    if total > len(mistakes):
        which = f"the {len(mistakes)} most confident of {total:,} mistakes"
    return contact_sheet([_captioned(one) for one in mistakes], f"{_title(score)}\n{which}")


def _captioned(one: Mistake) -> Captioned:
    lines = [*wrap_caption(f"class: {one.label}"), *wrap_caption(f"predicted: {one.predicted}")]
    return Captioned(one.pixels.numpy(), [*lines, f"probability {one.confidence:.0%}"])


def _title(score: WeightsEvaluation) -> str:
    return f"{score.name} on {plural(score.images, 'image')} of {score.data}, {score.split}"


def _classes_to_draw(counts: Mapping[tuple[int, int], int], classes: int) -> Sequence[int]:
    """Return all classes, in order, or those that take part in most confusions."""
    if classes <= CLASSES_DRAWN:
        return range(classes)
    confused: Counter[int] = Counter()
    for (label, predicted), count in counts.items():
        if label != predicted:
            confused[label] += count
            confused[predicted] += count
    ranked = sorted(range(classes), key=lambda one: (-confused[one], one))
    return sorted(ranked[:CLASSES_DRAWN])


def _write_confusion(score: WeightsEvaluation, path: Path) -> None:
    """Write the matrix, a row for each class and a column for each prediction; of very many classes, the pairs."""
    names, counts = [safe_cell(name) for name in score.names], score.counts
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if len(names) > MATRIX_CLASSES:
            writer.writerow(["class", "predicted", "images"])
            writer.writerows([names[label], names[other], count] for (label, other), count in sorted(counts.items()))
            return
        writer.writerow(["class \\ predicted", *names])
        for label, name in enumerate(names):
            writer.writerow([name, *(counts.get((label, other), 0) for other in range(len(names)))])
