"""The option --data as overrides of a spec. Torch-free."""

import json

from t2tbuild.spec.data import AnyData, FolderData, data_root

BUNDLED = ("digits", "cifar10", "cifar100")
"""Values of --data that are kinds of data, not folders."""


def data_overrides(text: str, current: AnyData | None, field: str = "train.data") -> list[str]:
    """Return the overrides that set `field` to the data of --data: a kind of bundled data, or a folder of images.

    A folder keeps the image transforms of `current`, the data of the spec, where they are a folder too.
    """
    if text in BUNDLED:
        return [f"{field}={{kind: {text}}}"]
    root = data_root(text).absolute()
    validation = "val" if (root / "val").is_dir() else "."
    train = "train" if (root / "train").is_dir() else validation  # evaluation needs no training images
    splits = {"root": str(root), "train": train, "validation": validation, "test": None}
    if isinstance(current, FolderData):
        return [f"{field}.{name}={json.dumps(value)}" for name, value in splits.items()]
    return [f"{field}={json.dumps({'kind': 'folder', **splits})}"]
