"""From a file to an image of 8 bits, upright, in RGB or gray: the same for training, evaluation and pictures."""

import os
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from t2tbuild.files import require_regular

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that sets an image of each EXIF orientation upright. ImageOps.exif_transpose also rewrites the
other EXIF tags, which fails for images with damaged ones."""

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""PIL's formats that are read, whatever the name of a file. EPS is none: PIL runs it, as a program, in Ghostscript."""

BITS_PER_SAMPLE = 258  # a TIFF tag
MAX_8_BITS, MAX_16_BITS = 2**8 - 1, 2**16 - 1
STRIP_PIXELS = 2**22  # that are scaled together: a large image would take several times its memory


def load_image(path: str | os.PathLike[str]) -> Image.Image:
    """Return the decoded image of a file, as it is stored, and close the file."""
    require_regular(Path(os.fsdecode(path)))
    with open(path, "rb") as file:  # noqa: PTH123 - as PIL does
        image = open_image(file)
        image.load()
    return image


def open_image(file: IO[bytes]) -> Image.Image:
    """Open an image of one of FORMATS, without its pixels. Raises any error of PIL."""
    return Image.open(file, formats=FORMATS)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image upright (EXIF), in 8 bits and in PIL's `mode`, RGB or L.

    Integers of more than 8 bits are scaled by the range of their type: 65535 becomes 255. Where the file does not have
    the bits of an integer or floating-point image, its largest value decides: up to 1 (floating point only), 255,
    65535, or itself.
    """
    image.load()  # its EXIF may follow the pixels
    upright = UPRIGHT.get(orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    image = image.convert(mode)
    image = image if upright is None else image.transpose(upright)
    image.info = {}  # its EXIF would turn it again where the result is read once more
    return image


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 for an upright one; damaged EXIF counts as upright."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # it must not cost the image
        return 1
    return found if isinstance(found, int) else 1


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale an image of one channel of 16-bit, 32-bit or floating-point values."""
    pixels = np.asarray(image)
    factor = MAX_8_BITS / _largest_value(image, pixels)
    scaled = np.empty(pixels.shape, np.uint8)
    rows = max(1, STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        strip = np.nan_to_num(pixels[top : top + rows].astype(np.float64), posinf=np.inf, neginf=0)
        scaled[top : top + rows] = np.rint((strip * factor).clip(0, MAX_8_BITS))
    return Image.fromarray(scaled)


def _largest_value(image: Image.Image, pixels: np.ndarray) -> float:
    """Return the value that stands for white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return MAX_16_BITS
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE)
    if image.mode == "I" and bits and bits[0] <= 16:
        return float(2 ** bits[0] - 1)
    most = float(pixels.max(initial=0, where=np.isfinite(pixels)))
    limits = (1, MAX_8_BITS, MAX_16_BITS) if image.mode == "F" else (MAX_8_BITS, MAX_16_BITS)
    return next((limit for limit in limits if most <= limit), most)
