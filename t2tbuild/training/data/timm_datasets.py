"""Data sets that timm opens: what is missing is told, and what numbers its samples have."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.dataset_factory import create_dataset

from t2tbuild.errors import FieldError
from t2tbuild.spec.data import TimmData, data_root
from t2tbuild.training.data.decode import reason

PACKAGES = {
    "hfds": ("datasets", "pip install 't2tbuild[data]'"),
    "hfids": ("datasets", "pip install 't2tbuild[data]'"),
    "wds": ("webdataset", "pip install 't2tbuild[data]'"),
    "tfds": ("tensorflow_datasets", "pip install tensorflow tensorflow-datasets"),
}
LAYOUTS = {
    "hfds": "hfds/NAME of the Hugging Face hub, or hfds//absolute/folder of class folders below the split's",
    "hfids": "hfids/NAME of a set whose card tells how many images a split has; hfds/ needs no card",
    "wds": "ROOT/*.tar and ROOT/_info.json of timm, which has num_samples, filenames and shard_lengths of each split",
    "tfds": "tfds/NAME prepared below ROOT",
    "torch": "torch/cifar10, cifar100, mnist, ... or torch/image_folder, with its files below ROOT",
}
_NAME = ("train", "data", "name")
_ROOT = ("train", "data", "root")


@dataclass(frozen=True)
class Opening:
    """A split as timm is asked for it; small, so that workers can open it for themselves."""

    name: str
    root: str | None
    split: str
    mode: str

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]

    @property
    def is_numbered(self) -> bool:
        """Whether a sample is found by its number, rather than met while reading on."""
        return self.family in ("hfds", "torch")

    def open(self, **settings: Any) -> Any:
        """The dataset of timm; `settings` are those of create_dataset for sets that are read on."""
        return create_dataset(self.name, self.root, split=self.split, input_img_mode=self.mode, **settings)


def opening(spec: TimmData, split: str, *, mode: str) -> tuple[Opening, Any]:
    """The split and timm's dataset of it. Raises FieldError with what was looked for, and where."""
    remote = spec.root is not None and (":" in spec.root)
    root = None if spec.root is None else spec.root if remote else str(data_root(spec.root).absolute())
    asked = Opening(spec.name, root, split, mode)
    package, install = PACKAGES.get(asked.family, ("torch", ""))
    if importlib.util.find_spec(package) is None:
        raise FieldError(_NAME, "data-package", f"{spec.name} needs the package {package}", install)
    if root is None and asked.family in ("wds", "torch"):
        raise FieldError(_ROOT, "data", f"{spec.name} needs a root", f"expected {LAYOUTS[asked.family]}")
    if root is not None and not remote:
        asked = _here(asked, Path(root))
    try:
        dataset = asked.open()
        _check_classes(dataset, spec)
        if asked.family == "wds" and not remote:
            _check_shards(Path(root or "."), dataset.reader.split_info.filenames)
    except FieldError:
        raise
    except Exception as error:  # of every library its own
        where = f" in {root}" if root else ""
        message = f"timm cannot open {spec.name}, split {split}{where}: {reason(error)}"
        raise FieldError(_NAME, "data", message, f"expected {LAYOUTS[asked.family]}") from None
    return asked, dataset


def _here(asked: Opening, root: Path) -> Opening:
    """What can be told of a local root before timm looks. Raises FieldError."""
    expected = f"expected {LAYOUTS[asked.family]}"
    if asked.family in ("wds", "torch") and not root.is_dir():
        raise FieldError(_ROOT, "data", f"no folder {root}", expected)
    if asked.family == "wds" and ".tar" not in asked.split and not any(root.glob("*info.json")):
        raise FieldError(_ROOT, "data", f"no {root / '_info.json'}", expected)
    if asked.name.lower() in ("torch/image_folder", "torch/folder"):
        if not (root / asked.split).is_dir():  # timm would take the root for the split
            raise FieldError(_ROOT, "data", f"no folder {root / asked.split}", "expected ROOT/SPLIT/CLASS/*.jpg")
        return replace(asked, root=str(root / asked.split))
    return asked


def _check_classes(dataset: Any, spec: TimmData) -> None:
    classes = len(getattr(getattr(dataset, "reader", dataset), "class_to_idx", ()))
    if classes and classes != spec.num_classes:
        message = f"{spec.name} has {classes} classes, and num_classes is {spec.num_classes}"
        raise FieldError(("train", "data", "num_classes"), "data-classes", message, f"write {classes}")


def _check_shards(root: Path, filenames: Sequence[str]) -> None:
    """A shard that is not there would be passed over."""
    missing = [name for name in filenames if ":" not in name and not (root / name).is_file()]
    if missing:
        more = f", and {len(missing) - 1} others are missing" if missing[1:] else ""
        raise FieldError(_ROOT, "data", f"no file {root / missing[0]}{more}", "its split's filenames name it")


class ReaderSamples:
    """The samples of hfds/, by timm's reader."""

    def __init__(self, reader: Any, asked: Opening) -> None:
        self.reader, self.asked = reader, asked

    def __len__(self) -> int:
        return len(self.reader)

    def name(self, index: int) -> str:
        try:
            return f"{self.asked.name} {self.asked.split}[{index}] {self.reader.filename(index) or ''}".rstrip()
        except Exception:  # the row itself may be what cannot be read
            return f"{self.asked.name} {self.asked.split}[{index}]"

    def read(self, index: int) -> tuple[Image.Image, int]:
        file, label = self.reader[index]
        with file:
            image = Image.open(file)
            image.load()
        return image, int(label)


class TorchSamples:
    """The samples of torchvision's data sets, torch/."""

    def __init__(self, dataset: Any, asked: Opening) -> None:
        self.dataset, self.asked = dataset, asked

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        files = getattr(self.dataset, "samples", None)
        return str(files[index][0]) if files else f"{self.asked.name} {self.asked.split}[{index}]"

    def read(self, index: int) -> tuple[Image.Image, int]:
        image, label = self.dataset[index]
        return image, int(label)
