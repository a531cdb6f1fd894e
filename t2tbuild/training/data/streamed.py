"""Images that workers read while the device trains: the splits of FolderData and TimmData."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from t2tbuild.errors import TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import FolderData, TimmData
from t2tbuild.training.data.dataset import HostBatch
from t2tbuild.training.data.decode import Corrupt
from t2tbuild.training.data.loader import read
from t2tbuild.training.data.splits import StreamedSplit, open_split
from t2tbuild.training.data.transforms import channel_values, evaluation_transform, train_transform
from t2tbuild.training.dataset_paths import class_folders
from t2tbuild.training.sampler import EpochSampler

TOLD = 3  # corrupt images that an error names


class StreamedData:
    """The splits of FolderData or TimmData: "train", "validation", and "test", which is validation where there is none.

    `mean` and `std` have one number for each channel of the model's images: one number is repeated; three are averaged
    for a model of gray images. `corrupt` names the training images that were replaced, each once, in order of
    discovery, on this rank.

    Order and augmentation are functions of (seed, epoch, index). Sets of TimmData that can only be read on (wds/,
    hfids/, tfds/) have timm's own order, which is a function of (seed, epoch) for the same number of workers and ranks;
    they have one worker at least, and no more than shards. Of hfids/ and tfds/ the first corrupt image ends training:
    their libraries do not read on. Raises FieldError when the data are not where the spec says, or are others.
    """

    def __init__(
        self, spec: FolderData | TimmData, *, image: Grid, in_chans: int, workers: int, device: torch.device
    ) -> None:
        self.spec, self.workers, self.device = spec, workers, device
        self.mean, self.std = channel_values(spec, in_chans)
        self.num_classes = len(class_folders(spec)) if isinstance(spec, FolderData) else spec.num_classes
        self.corrupt: list[str] = []
        self._corrupt_names: set[str] = set()
        self._mode = "L" if in_chans == 1 else "RGB"
        self._training_look = train_transform(spec, image, self.mean)
        self._evaluation_look = evaluation_transform(spec, image)
        self._mean, self._std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self.mean, self.std))
        self._splits: dict[str, StreamedSplit] = {}

    def remember(self, names: Sequence[str]) -> None:
        """Count these training images, as `corrupt` has them, as known to be unreadable."""
        self.corrupt += names
        self._corrupt_names.update(name.rpartition(" (")[0] for name in names)

    def size(self, split: str) -> int:
        """Images of a split."""
        return self._split(split).size

    def training(self, order: EpochSampler, *, epoch: int, step: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's batches from (epoch, step) on to the end of epoch `epochs` - 1; workers read on across epochs.

        Images [B, C, H, W], float32 and normalised, and labels [B], both on the device. Raises TrainingError when more
        than `skip_corrupt` distinct images cannot be read.
        """
        split = self._split("train")
        loader = split.training(self._training_look, order, epoch=epoch, step=step, epochs=epochs)
        for batch in read(loader, workers=split.workers(self.workers, order.ranks), device=self.device):
            self._note(batch.corrupt)
            yield self._placed(batch)

    def evaluation(self, split: str, *, rank: int, ranks: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of a split, every sample once over all ranks, in a fixed order; see `training`.

        Raises TrainingError for the first image that cannot be read.
        """
        streamed = self._split(split)
        loader = streamed.evaluation(self._evaluation_look, rank=rank, ranks=ranks, batch_size=batch_size)
        for batch in read(loader, workers=streamed.workers(self.workers, ranks), device=self.device):
            if batch.corrupt:
                message = f"an image of the {split} split cannot be read: {batch.corrupt[0]}"
                raise TrainingError(f"{message}; repair or remove it: an accuracy without it would be another's")
            yield self._placed(batch)

    def _split(self, split: str) -> StreamedSplit:
        if split not in self._splits:
            self._splits[split] = open_split(self.spec, split, mode=self._mode)
        return self._splits[split]

    def _note(self, found: Sequence[Corrupt]) -> None:
        """Enter corrupt images that are new. Raises TrainingError when there are too many."""
        new = {corrupt.name: corrupt for corrupt in found if corrupt.name not in self._corrupt_names}
        self._corrupt_names.update(new)
        self.corrupt += map(str, new.values())
        if len(self.corrupt) > self.spec.skip_corrupt:
            count = f"{len(self.corrupt)} training images" if len(self.corrupt) > 1 else "a training image"
            message = f"{count} cannot be read, and train.data.skip_corrupt is {self.spec.skip_corrupt}; the last: "
            raise TrainingError(
                f"{message}{'; '.join(self.corrupt[-TOLD:])}. Repair or remove them, or raise skip_corrupt"
            )

    def _placed(self, batch: HostBatch) -> tuple[Tensor, Tensor]:
        """The batch on the device, normalised, its patches filled in. Raises TrainingError for what a worker told."""
        if batch.failure:
            raise TrainingError(f"training data cannot be read on: {batch.failure}")
        least, most = batch.labels.aminmax()
        if least < 0 or most >= self.num_classes:
            message = (
                f"an image has label {int(most if least >= 0 else least)}, and there are {self.num_classes} classes"
            )
            raise TrainingError(f"{message}; labels count from 0 (train.data.num_classes)")
        images = batch.images.to(self.device, non_blocking=True).float().div_(255).sub_(self._mean).div_(self._std)
        labels, noise = (tensor.to(self.device, non_blocking=True) for tensor in (batch.labels, batch.noise))
        start = 0
        for image, top, left, height, width in batch.boxes.tolist():
            shape = (len(self.mean), height, width)
            patch = noise[start : (start := start + shape[0] * height * width)].view(shape)
            images[image, :, top : top + height, left : left + width] = patch
        return images, labels
