"""What was chosen for data that the spec leaves open, in sentences for the user. Torch-free."""

from collections.abc import Iterator

from t2tbuild.spec.data import ALL, AUTO, AnyData, Augmentation, CsvData, FolderData, UserImages, data_root
from t2tbuild.spec.units import plural
from t2tbuild.training.csv_table import read_table
from t2tbuild.training.dataset_paths import LARGE, class_names, split_folders
from t2tbuild.training.folder_layout import FLAT, count_unread, describe_unread, has_images, list_folders

NAMES_SHOWN = 5


def data_notices(given: AnyData, resolved: AnyData) -> Iterator[str]:
    """Yield a sentence for each choice of `resolve_data`, and warnings about the names of the classes."""
    if not isinstance(given, UserImages) or not isinstance(resolved, UserImages):
        return
    splits = [getattr(given, field) for field in ("train", "validation", "test")]
    if AUTO in splits or (resolved.validation is None and given.holdout is None):
        yield describe_splits(resolved)
    if isinstance(resolved, FolderData) and resolved.train != FLAT:
        used = split_folders(resolved) | {resolved.train.split("/")[0]}
        root = data_root(resolved.root)
        beside = [name for name in list_folders(root) if name not in used and has_images(root / name)]
        if beside:
            more = f" and {len(beside) - NAMES_SHOWN} more" if beside[NAMES_SHOWN:] else ""
            yield f"not used, as {resolved.train} has the training images: {', '.join(beside[:NAMES_SHOWN])}{more}"
    if isinstance(resolved, FolderData):
        unread = describe_unread(count_unread(data_root(resolved.root) / resolved.train))
        if unread:
            yield unread
    if given.augment == AUTO:
        yield _describe_augmentation(resolved.augment)
    names = class_names(resolved) or ()
    if isinstance(resolved, FolderData) and resolved.classes is None and all(name.isdecimal() for name in names):
        by_number = sorted(names, key=int)
        if list(names) != by_number:
            order = f"{', '.join(names[:NAMES_SHOWN])}{' ...' if names[NAMES_SHOWN:] else ''}"
            yield (
                f"the class folders are numbers, and their labels follow their order as text: {order}; "
                "for the order of the numbers list them in train.data.classes"
            )
    left_out = sorted({*_all_classes(resolved)} - {*names}) if resolved.classes is not None else []
    if left_out:
        more = f" and {len(left_out) - NAMES_SHOWN} more" if left_out[NAMES_SHOWN:] else ""
        yield f"left out, as train.data.classes does not list them: {', '.join(left_out[:NAMES_SHOWN])}{more}"


def describe_splits(data: UserImages) -> str:
    """Return where the images of each split of resolved data are."""
    train = "all of its images" if data.train in (FLAT, ALL) else data.train
    place = data.root if isinstance(data, FolderData) else data.file
    validation = f"validation: {data.validation}"
    if data.validation is None:
        share = f"{float(data.holdout or 0):.0%} of each class, at least one image of a class with two or more"
        validation = f"validation: {share}, held out of the training images"
    return f"{place}: train: {train}; {validation}; {f'test: {data.test}' if data.test else 'no test images'}"


def describe_unreadable(count: int, *, held_out: bool = False) -> str:
    """Return what training does with unreadable images, which it trains on or holds out of the training images."""
    images = plural(count, "held-out image" if held_out else "training image")
    effect = "left out of evaluations" if held_out else "replaced by the next readable one"
    return f"{images} cannot be read, and {'is' if count == 1 else 'each is'} {effect}"


def _describe_augmentation(augment: object) -> str:
    if augment == Augmentation():
        return f"augmentation: ImageNet's, as there are {LARGE:,} training images or more"
    return (
        f"augmentation: crops of at least half of the area and flips, as there are fewer than {LARGE:,} training images"
    )


def _all_classes(data: UserImages) -> list[str]:
    if isinstance(data, CsvData):
        return read_table(data).classes
    splits = split_folders(data) if data.train == FLAT else set()
    return [name for name in list_folders(data_root(data.root) / data.train) if name not in splits]
