"""Released weights by name: what `released.yaml` knows of each file, where it is cached, and its download. Torch-free.

The files are others' work under a licence of their own, which `Released.licence` names; t2tbuild's does not hold for
them.
"""

import difflib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from t2tbuild.errors import FieldError, InputError
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import RELEASED, Weights, name_released
from t2tbuild.weights.cache import cache_folder, is_offline
from t2tbuild.weights.download import Expected, OnProgress, download, verify_kept

FILE = Path(__file__).parent / "released.yaml"
TORCH = (b"PK\x03\x04", b"\x80")  # torch saves a zip file, before version 1.6 a pickle
MIRROR = "T2TBUILD_RELEASES"
"""Environment variable: a URL (http, https, file) or a folder that has the released files, in place of the sources."""


@dataclass(frozen=True)
class Released:
    """A file of released weights.

    Attributes:
        name: The name of a shipped spec, with a tag after a dot where a spec has several files.
        file, url: The file's name, and where it was released.
        top1: Its accuracy in percent on `data`, as its authors print it.
        data: The data set of its classes: imagenet-1k, cifar10 or cifar100.
        num_classes, mean, std, crop: The classes, normalisation and crop ratio of that data.
        licence, holder: The SPDX name of the weights' licence, and who grants it.
        bytes: The size, None if it is not known.
        sha256: The first hexadecimal digits of the digest, empty if it is not known.
        note: What to know before using it.
    """

    name: str
    file: str
    url: str
    top1: float
    data: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float
    licence: str
    holder: str
    bytes: int | None
    sha256: str
    note: str

    @property
    def spec(self) -> str:
        """The shipped spec of its model."""
        return self.name.partition(".")[0]

    @property
    def shrink(self) -> int | None:
        """The side of the images of CIFAR, which its training enlarges; None for ImageNet."""
        return 32 if self.data.startswith("cifar") else None

    @property
    def path(self) -> Path:
        """Where the file is, or will be, cached."""
        return cache_folder() / "released" / self.file

    @property
    def is_cached(self) -> bool:
        """Whether the whole file is in the cache."""
        return self.path.is_file()

    @property
    def notice(self) -> str:
        """What to print when the file is downloaded: whose it is, its licence, and the note."""
        text = f"weights of {self.holder}, licence {self.licence}; t2tbuild's own licence is Apache-2.0"
        return text + (f"; {self.note}" if self.note else "")

    @property
    def location(self) -> str:
        """The URL to download from: that of T2TBUILD_RELEASES if it is set, else the release's own."""
        mirror = os.environ.get(MIRROR, "").strip()
        if not mirror:
            return self.url
        if "://" not in mirror:
            mirror = Path(mirror).expanduser().resolve().as_uri()
        return f"{mirror.rstrip('/')}/{self.file}"

    @property
    def expected(self) -> Expected:
        """What is known of the file's content."""
        return Expected(self.bytes, self.sha256, TORCH)


@functools.cache
def released_weights() -> dict[str, Released]:
    """Return all released weights by name, in the order of the file."""
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: _parse(name, entry, data) for name, entry in data["weights"].items()}


def _parse(name: str, entry: dict[str, Any], data: dict[str, Any]) -> Released:
    source, trained_on = data["sources"][entry.get("source", "authors")], entry.get("data", "imagenet-1k")
    dataset = data["datasets"][trained_on]
    return Released(
        name=name,
        file=entry["file"],
        url=f"{source['url']}/{entry['file']}",
        top1=float(entry["top1"]),
        data=trained_on,
        num_classes=dataset["num_classes"],
        mean=tuple(dataset["mean"]),
        std=tuple(dataset["std"]),
        crop=dataset["crop"],
        licence=source["licence"],
        holder=source["holder"],
        bytes=entry.get("bytes"),
        sha256=str(entry.get("sha256", "")),
        note=entry.get("note", ""),
    )


def find_released(name: str) -> Released:
    """Return the released weights of a name. Raises InputError that lists the names there are."""
    known = released_weights()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"{name!r:.60} has no released weights; {suggestion}there are {', '.join(known)}")


def named_weights(spec: Spec) -> Iterator[tuple[tuple[str, ...], Weights]]:
    """Yield the weights that a spec and its distillation name, each with its field."""
    if spec.weights is not None:
        yield ("weights",), spec.weights
    distill = spec.train.distill if spec.train is not None else None
    if distill is not None and distill.weights is not None:
        yield ("train", "distill", "weights"), distill.weights


def require_released(spec: Spec) -> None:
    """Raise FieldError where a spec names released weights that do not exist. Downloads nothing."""
    for field, weights in named_weights(spec):
        name = name_released(weights.file, spec.model.name)
        if name.startswith(f"{RELEASED}:"):
            try:
                find_released(name.removeprefix(f"{RELEASED}:"))
            except InputError as error:
                raise FieldError(field, "released", str(error)) from None


def fetch_released(name: str, on_progress: OnProgress | None = None, *, force: bool = False) -> Path:
    """Return the cached file of released weights; download it first if it is not there, or if `force`.

    Raises InputError for an unknown name, and offline if the file is not cached; DownloadError if it cannot be
    downloaded, or is not the file that was expected.
    """
    found = find_released(name)
    if found.is_cached and not force:
        verify_kept(found.path, found.expected)
        return found.path
    if is_offline():
        raise InputError(
            f"released:{name} is not cached, and downloads are turned off (T2TBUILD_OFFLINE or HF_HUB_OFFLINE); turn "
            f"them on, or put {found.file} into {found.path.parent}"
        )
    download(found.location, found.path, found.expected, on_progress, force=force)
    return found.path
