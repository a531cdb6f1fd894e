"""Datasets that timm opens: hfds/, hfids/, wds/, tfds/ and torch/."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset

from t2tbuild.errors import FieldError
from t2tbuild.image_mode import load_image, open_image
from t2tbuild.spec.data import TimmData, data_root
from t2tbuild.spec.units import plural
from t2tbuild.training.data.dataset import error_reason
from t2tbuild.training.folder_layout import describe_other_missing

PACKAGES = {
    "hfds": ("datasets", "pip install 't2tbuild[data]'"),
    "hfids": ("datasets", "pip install 't2tbuild[data]'"),
    "wds": ("webdataset", "pip install 't2tbuild[data]'"),
    "tfds": ("tensorflow_datasets", "pip install tensorflow tensorflow-datasets"),
}
"""Package of each family, and the command that installs it."""

LAYOUTS = {
    "hfds": "hfds/NAME of the Hugging Face hub, or hfds//absolute/folder with SPLIT/CLASS/ folders of images",
    "hfids": "hfids/NAME of a dataset whose card has the number of images of each split; hfds/ needs no card",
    "wds": "ROOT/*.tar and timm's ROOT/_info.json, which has num_samples, filenames and shard_lengths of each split",
    "tfds": "tfds/NAME prepared below ROOT",
    "torch": "torch/cifar10, cifar100, mnist, ... or torch/image_folder, with its files below ROOT",
}
_NAME = ("train", "data", "name")
_ROOT = ("train", "data", "root")


@dataclass(frozen=True)
class TimmSplit:
    """The arguments by which timm opens a split; small, so that each worker can open it."""

    name: str
    root: str | None
    split: str
    mode: str

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_map_style(self) -> bool:
        """Whether samples are read by index."""
        return self.family in ("hfds", "torch")

    def create_dataset(self, **settings: Any) -> Any:
        """Open timm's dataset; `settings` are create_dataset's for datasets without random access."""
        return create_dataset(self.name, self.root, split=self.split, input_img_mode=self.mode, **settings)


def open_timm_split(spec: TimmData, split: str, *, mode: str) -> tuple[TimmSplit, Any]:
    """Open a split and return it with timm's dataset. Raises FieldError if it is missing."""
    remote = spec.root is not None and (":" in spec.root)
    root = None if spec.root is None else spec.root if remote else str(data_root(spec.root).absolute())
    timm_split = TimmSplit(spec.name, root, split, mode)
    package, install = PACKAGES.get(timm_split.family, ("torch", ""))
    if importlib.util.find_spec(package) is None:
        raise FieldError(_NAME, "data-package", f"{spec.name} needs the package {package}", install)
    if root is None and timm_split.family in ("wds", "torch"):
        raise FieldError(_ROOT, "data", f"{spec.name} needs a root", f"expected {LAYOUTS[timm_split.family]}")
    if root is not None and not remote:
        timm_split = _check_local_root(timm_split, Path(root))
    try:
        dataset = timm_split.create_dataset()
        _check_classes(dataset, spec)
        if timm_split.family == "wds" and not remote:
            _check_shards(Path(root or "."), dataset.reader.split_info.filenames)
    except FieldError:
        raise
    except Exception as error:  # each library has its own types
        where = f" in {root}" if root else ""
        message = f"timm cannot open {spec.name}, split {split}{where}: {error_reason(error)}"
        raise FieldError(_NAME, "data", message, f"expected {LAYOUTS[timm_split.family]}") from None
    return timm_split, dataset


def _check_local_root(timm_split: TimmSplit, root: Path) -> TimmSplit:
    """Check that a local root has the files of the split, and return the split to open. Raises FieldError."""
    expected = f"expected {LAYOUTS[timm_split.family]}"
    if timm_split.family in ("wds", "torch") and not root.is_dir():
        raise FieldError(_ROOT, "data", f"no folder {root}", expected)
    if timm_split.family == "wds" and ".tar" not in timm_split.split and not any(root.glob("*info.json")):
        raise FieldError(_ROOT, "data", f"no {root / '_info.json'}", expected)
    if timm_split.name.lower() in ("torch/image_folder", "torch/folder"):
        folder = root / timm_split.split
        if not folder.is_dir():  # timm would open the root in its place
            raise FieldError(_ROOT, "data", f"no folder {folder}", "expected ROOT/SPLIT/CLASS/*.jpg")
        return replace(timm_split, root=str(folder))
    return timm_split


def _check_classes(dataset: Any, spec: TimmData) -> None:
    classes = len(getattr(getattr(dataset, "reader", dataset), "class_to_idx", ()))
    if classes and classes != spec.num_classes:
        message = f"{spec.name} has {plural(classes, 'class')}, and num_classes is {spec.num_classes}"
        raise FieldError(("train", "data", "num_classes"), "data-classes", message, f"write {classes}")


def _check_shards(root: Path, filenames: Sequence[str]) -> None:
    """Check that all shards exist: webdataset skips a missing one."""
    missing = [name for name in filenames if ":" not in name and not (root / name).is_file()]
    if missing:
        more = describe_other_missing(len(missing) - 1)
        raise FieldError(_ROOT, "data", f"no file {root / missing[0]}{more}", "the split's filenames list it")


class TimmIndexedSource:
    """The samples of hfds/, by timm's reader."""

    def __init__(self, reader: Any, timm_split: TimmSplit) -> None:
        self.reader, self.timm_split = reader, timm_split

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def labels(self) -> Sequence[int]:
        """The labels of all images, from their column."""
        labels: Sequence[int] = self.reader.dataset[self.reader.label_key][:]
        return labels

    def name(self, index: int) -> str:
        place = f"{self.timm_split.name} {self.timm_split.split}[{index}]"
        try:
            return f"{place} {self.reader.filename(index) or ''}".rstrip()
        except Exception:  # the row itself may be corrupt
            return place

    def read(self, index: int) -> tuple[Image.Image, int]:
        file, label = self.reader[index]
        with file:
            image = open_image(file)
            image.load()
        return image, int(label)


class TorchvisionSource:
    """The samples of torchvision's datasets, torch/."""

    def __init__(self, dataset: Any, timm_split: TimmSplit) -> None:
        self.dataset, self.timm_split = dataset, timm_split

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> Sequence[int] | None:
        """The labels of all images, None where torchvision does not list them."""
        return getattr(self.dataset, "targets", None)

    def name(self, index: int) -> str:
        files = getattr(self.dataset, "samples", None)
        return str(files[index][0]) if files else f"{self.timm_split.name} {self.timm_split.split}[{index}]"

    def read(self, index: int) -> tuple[Image.Image, int]:
        files = getattr(self.dataset, "samples", None)
        if files:  # torchvision would convert to RGB, and so clip 16 bits
            path, label = files[index]
            return load_image(path), int(label)
        image, label = self.dataset[index]
        return image, int(label)
