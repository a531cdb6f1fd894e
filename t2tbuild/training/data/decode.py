"""One image read from where it lies, and what is told of one that cannot be."""

import errno
import warnings
from typing import NamedTuple, Protocol

from PIL import Image

OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the machine, which say nothing of the image."""


class Corrupt(NamedTuple):
    """An image that cannot be read: which, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


class Samples(Protocol):
    """Images with labels that are found by their number."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a person finds the image by."""

    def read(self, index: int) -> tuple[Image.Image, int]:
        """The image, decoded or not yet, and its label. Raises whatever the system, PIL or the library raises."""


def decode(samples: Samples, index: int, *, mode: str) -> tuple[Image.Image, int] | Corrupt:
    """The image as PIL's `mode` (RGB or L) and its label.

    PIL has an error of another type for each way in which a file can be broken, so any of them is the file's, save
    those of a machine without memory or file handles. PIL's warnings of odd files are not told.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image, label = samples.read(index)
            return image.convert(mode), label
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
            raise
        return Corrupt(samples.name(index), reason(error))


def reason(error: BaseException) -> str:
    """An error in a line: its text without the path that the reader is told anyway."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if message.startswith("cannot identify image file"):
        message = "not an image"
    return " ".join(message.split())[:200] or type(error).__name__
