"""Distributed training: torchrun starts one process (rank) for each device.

Without torchrun, a process is rank 0 of 1, and no function here communicates.
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

TIMEOUT = timedelta(minutes=10)
"""Time after which a rank stops waiting for the others."""

DISCONNECTED = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "recvVector failed",
)
"""Parts of the messages of gloo and NCCL when another rank is lost."""


@dataclass(frozen=True)
class DistributedContext:
    """The rank of this process, the number of ranks, and their communication.

    Small values go through `control_group`, which runs on the CPU, so that nothing waits for a device.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    control_group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the files and the output."""
        return self.rank == 0

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of values over all ranks, in float64."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.control_group)
        sums: list[float] = total.tolist()
        return sums

    def all_gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control_group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control_group)
        return values[0]

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.world_size > 1:
            dist.barrier(group=self.control_group)

    def wrap_ddp(self, model: nn.Module) -> nn.Module:
        """Return the model in DistributedDataParallel; a single rank's model is returned unchanged."""
        if self.world_size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace the gradients by their means over all ranks, which have gradients of the same parameters."""
        if self.world_size > 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.world_size

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of rank 0, such as a BatchNorm's running means, to every rank."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def is_distributed_launch() -> bool:
    """Whether torchrun started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def init_distributed(device: torch.device) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started; without torchrun, yield the context of a single process.

    `device` gives the device type; each rank of a machine takes the next device. Raises InputError when a machine has
    more ranks than devices, or when `device` is a single one, and TrainingError when another rank is lost.
    """
    if not is_distributed_launch():
        yield DistributedContext(device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"WORLD_SIZE is set without {', '.join(missing)}; start the processes with torchrun")
    if device.index is not None or device.type == "mps":
        raise InputError(f"device {device}: several processes train together, each on its own; write cuda or cpu")
    local_rank, local_world_size = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(f"rank {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world_size))
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        control_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        yield DistributedContext(device, dist.get_rank(), dist.get_world_size(), local_world_size, control_group)
    except RuntimeError as error:
        if not _is_disconnected(error):
            raise
        message = f"rank {os.environ['RANK']}: lost the connection to another rank; see that rank's own error"
        raise TrainingError(f"{message} ({str(error).splitlines()[0]})") from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_disconnected(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(words in str(error) for words in DISCONNECTED)
