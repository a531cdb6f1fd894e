"""The description of a dataset for a terminal and as JSON, and its contact sheet."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from t2tbuild.files import short_path
from t2tbuild.report.figure import new_figure
from t2tbuild.report.table import Column, ColumnTable, FactTable
from t2tbuild.spec.data import Augmentation, Streamed, UserImages
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import is_or_are, plural
from t2tbuild.training.data.dataset import CorruptImage, Sample, make_sample, read_image
from t2tbuild.training.data.inspection import Inspection, Leakage, SplitFacts
from t2tbuild.training.data.transforms import (
    ImageTransform,
    channel_statistics,
    evaluation_transform,
    train_transform,
)
from t2tbuild.training.data_notices import describe_splits, describe_unreadable
from t2tbuild.training.folder_layout import describe_unread
from t2tbuild.training.seeds import fold_in

CLASSES_SHOWN = 20
NAMES_SHOWN = 5
NAME_LENGTH = 20  # characters of a class's name on a contact sheet
ROWS = 8  # classes of a contact sheet
IMAGES_PER_CLASS = 3
AUGMENTED = 2  # augmented views of each of them
CELL = 128  # longest side of an image of a contact sheet, in pixels
GAP, WIDE_GAP = 4, 16


def print_data(console: Console, found: Inspection, spec: Spec) -> None:
    """Print the splits, classes, unreadable images and near-duplicates of a dataset, and how training will see it."""
    assert spec.train is not None
    console.print(_splits_table(found))
    console.print(_classes_table(found))
    rows = FactTable()
    if isinstance(spec.train.data, UserImages):
        rows.add_row("splits", describe_splits(spec.train.data))
    rows.add_row("images as trained", f"{spec.model.image} pixels, {'gray' if spec.model.in_chans == 1 else 'RGB'}")
    data = spec.train.data
    assert isinstance(data, Streamed)
    assert not isinstance(data.augment, str)  # it is resolved
    rows.add_row("augmentation", describe_augmentation(data.augment))
    console.print(rows)
    for line in _findings(found, spec):
        console.print(line, soft_wrap=True)


def describe_augmentation(augment: Augmentation | None) -> str:
    """Return an augmentation in words."""
    if augment is None:
        return "none: images are only resized"
    low, high = (f"{float(share):.0%}" for share in augment.crop_scale)
    parts = [f"crops of {low} to {high} of the area"]
    parts += [f"horizontal flips ({float(augment.hflip):.0%})"] if augment.hflip else []
    if augment.auto_augment is not None:
        parts.append(f"auto_augment {augment.auto_augment}")
    elif augment.color_jitter is not None:
        parts.append(f"colour jitter {augment.color_jitter}")
    parts += [f"random erasing ({float(augment.random_erasing):.0%})"] if augment.random_erasing else []
    return ", ".join(parts)


def data_to_json(found: Inspection, spec: Spec) -> dict[str, Any]:
    """Return the description as plain data."""
    assert spec.train is not None
    return {
        "classes": list(found.classes),
        "splits": {one.name: _split_to_json(one, found) for one in found.splits},
        "leakage": [
            {"split": one.split, "other": one.other, "complete": one.complete}
            | {"duplicates": [duplicate._asdict() for duplicate in one.duplicates]}
            for one in found.leakage
        ],
        "files_not_read": dict(found.unread),
        "image_size": [spec.model.image.height, spec.model.image.width],
        "data": spec.train.data.model_dump(mode="json"),
    }


def _split_to_json(split: SplitFacts, found: Inspection) -> dict[str, Any]:
    sizes = split.sizes[split.readable]
    return {
        "images": len(split.labels),
        "per_class": dict(zip(found.classes, split.counts(len(found.classes)), strict=True)),
        "width": _range(sizes[:, 0]),
        "height": _range(sizes[:, 1]),
        "modes": dict(split.modes),
        "rotated_by_exif": split.rotated,
        "unreadable": [one._asdict() for one in split.unreadable],
    }


def _range(values: Any) -> dict[str, int] | None:
    if not len(values):
        return None
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def _splits_table(found: Inspection) -> ColumnTable:
    table = ColumnTable(
        [
            Column("split"),
            Column("images", right=True),
            Column("unreadable", 1, right=True),
            Column("width", 2),
            Column("height", 2),
            Column("modes", 3),
            Column("turned by EXIF", 4, right=True),
        ],
        caption="Width and height in pixels: smallest, median, largest. Modes are PIL's.",
    )
    for split in found.splits:
        sizes = split.sizes[split.readable]
        modes = ", ".join(f"{mode} {count:,}" for mode, count in split.modes.most_common())
        ranges = [", ".join(map(str, (_range(sizes[:, axis]) or {}).values())) for axis in (0, 1)]
        table.add_row(
            split.name, f"{len(split.labels):,}", f"{len(split.unreadable):,}", *ranges, modes, f"{split.rotated:,}"
        )
    return table


def _classes_table(found: Inspection) -> ColumnTable:
    """Return the images of each class; of many classes those with the most and the fewest."""
    counts = [split.counts(len(found.classes)) for split in found.splits]
    order = list(range(len(found.classes)))
    caption = plural(len(found.classes), "class")
    if len(order) > CLASSES_SHOWN:
        order.sort(key=lambda label: -counts[0][label])
        half = CLASSES_SHOWN // 2
        order = [*order[:half], *order[-half:]]
        caption += f": the {half} with the most training images, and the {half} with the fewest"
    if any(split.unreadable for split in found.splits):
        caption += "; unreadable images are not counted"
    columns = [Column(split.name, right=True) for split in found.splits]
    table = ColumnTable([Column("class"), *columns], caption=caption)
    for label in order:
        table.add_row(found.classes[label], *(f"{one[label]:,}" for one in counts))
    return table


def _findings(found: Inspection, spec: Spec) -> Iterator[str]:
    if found.unread:
        yield describe_unread(found.unread)
    for split in found.splits:
        if split.unreadable:
            yield f"{_describe_unreadable(split, spec)}:"
            yield from _some([short_path(str(one)) for one in split.unreadable])
        counts = split.counts(len(found.classes))
        missing = [name for name, count in zip(found.classes, counts, strict=True) if not count]
        if missing:
            yield f"classes without images in {split.name}: {len(missing)}"
            yield from _some(missing)
    image = spec.model.image
    train = found.splits[0]
    small = train.sizes[train.readable] < (image.width, image.height)
    if small.any():
        share = small.any(axis=1).mean()
        yield f"{share:.0%} of the training images are smaller than {image} pixels, and are enlarged"
    for leakage in found.leakage:
        yield from _describe_leakage(leakage)


def _describe_unreadable(split: SplitFacts, spec: Spec) -> str:
    """Return what training does with the unreadable images of a split."""
    assert spec.train is not None
    data = spec.train.data
    assert isinstance(data, Streamed)
    count = len(split.unreadable)
    if split.name == "train":
        return f"{describe_unreadable(count)} (up to {data.skip_corrupt}, train.data.skip_corrupt)"
    if split.name == "validation" and data.validation is None:
        limit = f"{'it counts' if count == 1 else 'they count'} towards train.data.skip_corrupt, {data.skip_corrupt}"
        return f"{describe_unreadable(count, held_out=True)} ({limit})"
    return f"{plural(count, f'{split.name} image')} cannot be read, and the first ends the training"


def _describe_leakage(leakage: Leakage) -> Iterator[str]:
    duplicates = leakage.duplicates
    least = "" if leakage.complete else "at least "
    if not duplicates and leakage.complete:
        yield f"no image of {leakage.split} is nearly the same as one of {leakage.other}"
        return
    other = sum(not one.same_class for one in duplicates)
    images = f"{plural(len(duplicates), 'image')} of {leakage.split} {is_or_are(len(duplicates))}"
    labelled = f", {other} of them with another label" if other else ""
    yield (f"leakage: {least}{images} nearly the same as images of {leakage.other}{labelled}")
    yield from _some([f"{short_path(one.name)} = {short_path(one.other)}" for one in duplicates])


def _some(lines: list[str]) -> Iterator[str]:
    for line in lines[:NAMES_SHOWN]:
        yield f"  {line}"
    if lines[NAMES_SHOWN:]:
        yield f"  and {len(lines) - NAMES_SHOWN:,} more (--json lists all)"


def draw_sheet(found: Inspection, spec: Spec) -> Figure:
    """Return a contact sheet: some classes by rows, images as the model sees them in evaluation and in training."""
    recipe = spec.train
    assert recipe is not None
    assert isinstance(recipe.data, Streamed)
    mean, std = channel_statistics(recipe.data, spec.model.in_chans)
    views = [evaluation_transform(recipe.data, spec.model.image)]
    views += [train_transform(recipe.data, spec.model.image, mean)] * AUGMENTED
    mode = "L" if spec.model.in_chans == 1 else "RGB"
    scale = CELL / max(spec.model.image)
    height, width = (max(1, round(side * scale)) for side in spec.model.image)
    train, chosen = found.splits[0], _choose_classes(found)
    lefts = [image * (len(views) * (width + GAP) + WIDE_GAP) for image in range(IMAGES_PER_CLASS)]
    places = [[left + view * (width + GAP) for view in range(len(views))] for left in lefts]
    canvas = np.full((len(chosen) * (height + GAP), places[-1][-1] + width, 3), 255, np.uint8)
    for row, label in enumerate(chosen):
        top = row * (height + GAP)
        for index, columns in zip(_choose_images(train, label), places, strict=False):
            image = read_image(train.source, index, mode=mode)
            if isinstance(image, CorruptImage):
                continue
            for view, (transform, left) in enumerate(zip(views, columns, strict=True)):
                pixels = _render(*image, transform, fold_in(recipe.seed, view, index), mean, std)
                canvas[top : top + height, left : left + width] = _resize(pixels, height, width)
    inches = canvas.shape[1] / 100 + 1.2, canvas.shape[0] / 100 + 0.7
    figure = new_figure(*inches)
    axes = figure.subplots()
    axes.imshow(canvas)
    axes.set_yticks([row * (height + GAP) + height / 2 for row in range(len(chosen))])
    axes.set_yticklabels([shorten(found.classes[label], NAME_LENGTH) for label in chosen])
    axes.xaxis.tick_top()
    names = ["evaluation", *["training"] * AUGMENTED]
    axes.set_xticks([left + width / 2 for columns in places for left in columns])
    axes.set_xticklabels(names * IMAGES_PER_CLASS, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    more = f" ({len(chosen)} of {plural(len(found.classes), 'class')})" if len(chosen) < len(found.classes) else ""
    axes.set_xlabel(f"{spec.model.image} pixels, as the model sees them{more}")
    return figure


def _choose_classes(found: Inspection) -> list[int]:
    """Return classes with training images, evenly spaced."""
    counts = found.splits[0].counts(len(found.classes))
    present = [label for label, count in enumerate(counts) if count]
    places = np.linspace(0, len(present) - 1, min(ROWS, len(present))).round().astype(int)
    return [present[place] for place in places]


def _choose_images(split: SplitFacts, label: int) -> list[int]:
    """Return images of a class, evenly spaced."""
    own = np.flatnonzero(split.labels == label)
    places = np.linspace(0, len(own) - 1, min(IMAGES_PER_CLASS, len(own))).round().astype(int)
    return [int(own[place]) for place in places]


def _render(
    image: Any, label: int, transform: ImageTransform, seed: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> Any:
    """Return the pixels [H, W, 3] of a transformed image, with the patch of random erasing filled in."""
    sample: Sample = make_sample(image, label, transform=transform, seed=seed)
    assert sample.pixels is not None
    pixels = sample.pixels.numpy().copy()
    if (patch := sample.patch) is not None:
        channels = (np.array(values, dtype=np.float32)[:, None, None] for values in (mean, std))
        offset, factor = channels
        filled = (patch.noise.numpy() * factor + offset).clip(0, 1) * 255
        pixels[:, patch.top : patch.top + filled.shape[1], patch.left : patch.left + filled.shape[2]] = filled
    return np.broadcast_to(pixels.transpose(1, 2, 0), (*pixels.shape[1:], 3))


def _resize(pixels: Any, height: int, width: int) -> Any:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height)))
