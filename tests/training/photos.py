"""Small folders of images, of several sizes, whose classes differ in colour."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


def write_photos(root: Path, *, train: int, validation: int, classes: int = 3) -> Path:
    """Write ROOT/train/CLASS/*.png and ROOT/val/CLASS/*.png and return the root."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", validation)):
        for number in range(count):
            folder = root / split / f"class{number % classes}"
            folder.mkdir(parents=True, exist_ok=True)
            shade = random.normal(COLOURS[number % classes], 40, (6, 6, 3)).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(shade).resize((24 + number % 3 * 8, 24), Image.Resampling.BICUBIC)
            image.save(folder / f"{number // classes}.png")
    return root
