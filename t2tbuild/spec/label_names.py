"""Names of classes: shortened for a line of text, and matched between a model and the data it is evaluated on."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.errors import FieldError

NAMES_IN_LINE = 8
NAME_LENGTH = 40  # characters of a name in a line or a message
BY_ORDER = "model.label_names=null goes by the order of the labels"


@dataclass(frozen=True)
class LabelMap:
    """The model's class for each label of a dataset, and the names of the model's classes that the dataset lacks."""

    classes: tuple[int, ...]
    num_classes: int
    missing: tuple[str, ...] = ()


def map_labels(model_names: Sequence[str], data_names: Sequence[str], field: tuple[str, ...]) -> LabelMap:
    """Return the model's class for each label of a dataset, by name.

    Raises FieldError at `field` for a class that the model does not know, with the nearest one that it does.
    """
    index = {name: number for number, name in enumerate(model_names)}
    unknown = [name for name in data_names if name not in index]
    missing = tuple(name for name in model_names if name not in set(data_names))
    if unknown:
        message = f"the data has a class that the model does not know: {_quote(unknown[0])}"
        if len(unknown) > 1:
            message = f"the data has {len(unknown)} classes that the model does not know: {list_names(unknown)}"
        nearest = _nearest(unknown[0], missing or model_names)
        known = f"the nearest of its classes is {_quote(nearest)}" if nearest else f"it knows {list_names(model_names)}"
        hint = f"labels go by name: rename or remove the class; {BY_ORDER}"
        raise FieldError(field, "data-classes", f"{message}; {known}", hint)
    return LabelMap(tuple(index[name] for name in data_names), len(model_names), missing)


def list_names(names: Sequence[str], most: int = NAMES_IN_LINE) -> str:
    """Return names as a line of text, with their number where not all of them are shown.

    >>> list_names(["cat", "dog"])
    'cat, dog'
    >>> list_names(["cat", "dog", "hen", "owl"], most=2)
    'cat, dog, ... (4)'
    """
    shown = ", ".join(map(shorten, names[:most]))
    return shown if len(names) <= most else f"{shown}, ... ({len(names):,})"


def shorten(name: str, most: int = NAME_LENGTH) -> str:
    """Return a name on one line, cut to at most `most` characters."""
    line = " ".join(name.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that is closest to a name, whatever its case; empty if none is close."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return folded[near[0]] if near else ""


def _quote(name: str) -> str:
    return f"'{shorten(name)}'"
