"""Run an opened file on images that were resized, cropped and normalised before, as those of training data."""

from collections.abc import Sequence

import numpy as np

from t2tbuild.weights.exported import ExportedModel
from t2tbuild.weights.preprocessing import Array


class OnNormalized:
    """An opened file as a function of normalised images [batch, in_chans, height, width].

    `mean` and `std` are those that the images were normalised by; left out, the file's. Where the file has others, the
    images are normalised again. A graph with its preprocessing inside gets the bytes of each image, in the middle of a
    frame that its resize leaves as it is and its crop cuts off.
    """

    def __init__(
        self, model: ExportedModel, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        self.model, self.steps = model, model.info.preprocessing
        self.own_mean, self.own_std = _columns(self.steps.mean), _columns(self.steps.std)
        self.mean = self.own_mean if mean is None else _columns(mean)
        self.std = self.own_std if std is None else _columns(std)
        self.fits = np.allclose(self.mean, self.own_mean) and np.allclose(self.std, self.own_std)

    def __call__(self, images: Array) -> Array:
        if self.steps.inside:
            return self.model(self._framed(images))
        if self.fits:
            return self.model(images)
        return self.model((images * self.std + self.mean - self.own_mean) / self.own_std)

    def _framed(self, images: Array) -> Array:
        """Return the bytes [batch, height, width, in_chans] in their frames."""
        small = self.steps.undo_enlargement(images)
        pixels = np.clip(np.rint(255 * (small * self.std + self.mean)), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        rows, columns = self.steps.resized
        crop = self.steps.crop(rows, columns)
        framed = np.zeros((len(images), rows, columns, images.shape[1]), np.uint8)
        height, width = self.steps.cropped
        framed[:, crop.top : crop.top + height, crop.left : crop.left + width] = pixels
        return framed


def _columns(values: Sequence[float]) -> Array:
    return np.asarray(values, np.float32)[:, None, None]
