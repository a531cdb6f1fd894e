"""Worker processes that read: how they begin, how they end, and what is told when one is lost."""

import atexit
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from t2tbuild.errors import TrainingError
from t2tbuild.training.data.dataset import HostBatch

STOP = (signal.SIGINT, signal.SIGTERM)
"""A terminal and torchrun send these to the whole group; what they mean is the main process' business."""


def read(loader: Callable[..., DataLoader[Any]], *, workers: int, device: torch.device) -> Iterator[HostBatch]:
    """The batches of a loader. However the iteration ends, no worker is left.

    `loader` is DataLoader with what is to be loaded. torch's own generator is not drawn from. Raises TrainingError when
    a worker is lost.
    """
    iterator = _started(loader, workers=workers, device=device)
    end = partial(_end, iterator)
    atexit.register(end)  # before torch's own, which would leave them to multiprocessing, which waits for them
    try:
        yield from iterator
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        if not workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
            raise
        message = "a process that reads images is lost, perhaps for want of memory (shared memory: df -h /dev/shm)"
        raise TrainingError(
            f"{message}: {(str(error).strip() or type(error).__name__).splitlines()[-1]}; lower train.data.workers"
        ) from None
    finally:
        atexit.unregister(end)
        end()


def _started(loader: Callable[..., DataLoader[Any]], *, workers: int, device: torch.device) -> Any:
    """The loader's iterator, its workers born with STOP blocked, which they undo once they ignore it."""
    kept = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than cores
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            # its own generator, else it would take the workers' seeds from the global one, and so change it
            generator = torch.Generator().manual_seed(0)
            pinned = device.type == "cuda"
            return iter(loader(num_workers=workers, worker_init_fn=_begin, pin_memory=pinned, generator=generator))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)


def _begin(_: int) -> None:
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def _end(iterator: Any) -> None:
    """Shut down what only torch's private method does; a worker that is stuck ignores the SIGTERM that it sends."""
    if not hasattr(iterator, "_shutdown_workers"):
        return  # read in this process
    try:
        iterator._shutdown_workers()
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):  # a worker's death, which torch tells whatever is done at the moment
            raise
    for worker in iterator._workers:
        if worker.is_alive():
            worker.kill()
