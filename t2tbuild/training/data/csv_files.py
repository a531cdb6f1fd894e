"""Images of a CSV file."""

import os

import numpy as np

from t2tbuild.spec.data import CsvData
from t2tbuild.training.csv_table import read_table
from t2tbuild.training.data.folder import ImageFiles


def open_csv(data: CsvData, field: str, split: str, classes: list[str]) -> ImageFiles:
    """Return the images of a split, which `field` names, in the order of the file; labels index `classes`.

    Images of other classes are left out.
    """
    table, label_of = read_table(data), {name: label for label, name in enumerate(classes)}
    rows = [row for row in table.rows(split, field) if table.labels[row] in label_of]
    paths = [os.fsencode(table.paths[row]) for row in rows]
    return ImageFiles(str(table.root), paths, np.array([label_of[table.labels[row]] for row in rows], np.int32))
