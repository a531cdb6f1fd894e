"""Training data: three splits as normalised batches on the device, held there or read by worker processes."""

import os
from typing import TYPE_CHECKING, assert_never

import torch

from t2tbuild.layout import Grid
from t2tbuild.spec.data import AnyData, CifarData, CsvData, DigitsData, FakeData, FolderData, PythonData, TimmData
from t2tbuild.training.data.dataset import Batch, Data, SplitName

if TYPE_CHECKING:
    from t2tbuild.training.data.python_datasets import PythonDatasets

__all__ = ["Batch", "Data", "SplitName", "load_data"]

MAX_DEFAULT_WORKERS = 8
"""Largest number of worker processes of a device, if the spec does not set `workers`."""


def load_data(
    spec: AnyData,
    *,
    image: Grid,
    in_chans: int,
    device: torch.device,
    local_world_size: int = 1,
    datasets: "PythonDatasets | None" = None,
) -> Data:
    """Load the data of a spec for one rank on `device`, as images of `image` pixels with `in_chans` channels.

    `datasets` are those of `kind: python`. `local_world_size` ranks share the CPU cores of this machine. Raises
    FieldError or InputError when the data is not there or does not fit the model.
    """
    match spec:
        case DigitsData():
            from t2tbuild.training.data.digits import load_digits_data

            return load_digits_data(spec, in_chans=in_chans, device=device)
        case CifarData():
            from t2tbuild.training.data.cifar import load_cifar

            return load_cifar(spec, image=image, in_chans=in_chans, device=device)
        case FakeData():
            from t2tbuild.training.data.fake import load_fake

            return load_fake(spec, image=image, in_chans=in_chans, device=device)
        case FolderData() | CsvData() | TimmData():
            from t2tbuild.training.data.loader import StreamedData

            workers = default_workers(local_world_size) if spec.workers is None else spec.workers
            return StreamedData(spec, image=image, in_chans=in_chans, workers=workers, device=device)
        case PythonData():
            from t2tbuild.training.data.loader import missing_datasets
            from t2tbuild.training.data.python_datasets import PythonStreamedData

            if datasets is None:
                raise missing_datasets()
            workers = default_workers(local_world_size) if spec.workers is None else spec.workers
            return PythonStreamedData(datasets, spec, image=image, in_chans=in_chans, workers=workers, device=device)
        case _:
            assert_never(spec)


def default_workers(local_world_size: int = 1) -> int:
    """Return the number of worker processes of a device where the spec does not set `workers`."""
    return min(MAX_DEFAULT_WORKERS, max(1, (os.cpu_count() or 1) // local_world_size))
