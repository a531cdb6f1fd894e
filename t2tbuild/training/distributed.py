"""Processes that train together: torchrun starts them, one for each device, and each is a rank.

A single process is rank 0 of 1, and everything here is then free.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from t2tbuild.errors import InputError, TrainingError

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others before it gives up."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and what they tell each other.

    Small things go through `control`, which runs on the CPU, so that no device is waited for.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    local_count: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        message: list[float] = total.tolist()
        return message

    def gather(self, value: Any) -> list[Any]:
        """What every rank says, in the order of ranks."""
        if self.count == 1:
            return [value]
        message: list[Any] = [None] * self.count
        dist.all_gather_object(message, value, group=self.control)
        return message

    def agree(self, value: Any) -> Any:
        """What rank 0 says."""
        if self.count == 1:
            return value
        message = [value]
        dist.broadcast_object_list(message, src=0, group=self.control)
        return message[0]

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.count > 1:
            dist.barrier(group=self.control)

    def together(self, model: nn.Module) -> nn.Module:
        """The model, its gradients averaged over the ranks."""
        if self.count == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def same_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of rank 0, such as a BatchNorm's running means."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def started_together() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone, without it.

    `device` is of the type to train on; each rank of a machine takes the next one. Raises InputError when a machine has
    more ranks than devices, and TrainingError when another rank is gone.
    """
    if not started_together():
        yield Ranks(device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is set and {', '.join(missing)} not: start the processes with torchrun")
    local, local_count = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise InputError(f"rank {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_count))
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield Ranks(device, dist.get_rank(), dist.get_world_size(), local_count, control)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        message = f"rank {os.environ['RANK']}: another rank is gone; its own error, if it told one, is the cause"
        raise TrainingError(f"{message} ({str(error).splitlines()[0]})") from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "recvVector failed",
)


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(words in str(error) for words in LOST)
