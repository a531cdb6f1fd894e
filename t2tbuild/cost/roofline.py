"""How fast a device can run a model at best: the roofline (Williams, Waterman and Patterson, CACM 52(4), 2009)."""

from dataclasses import dataclass

from t2tbuild.cost.program import Operation, moved_bytes
from t2tbuild.cost.trace import trace
from t2tbuild.dtype import Precision
from t2tbuild.spec.model import ModelSpec


@dataclass(frozen=True)
class Device:
    """Its peak in FLOP/s, a multiply-add being two, and its memory's bandwidth in bytes/s; see its data sheet."""

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which on arithmetic is the limit, and below which memory is."""
        return self.flops / self.bandwidth


@dataclass(frozen=True)
class Roofline:
    """A forward pass of a batch.

    `flops` are those of its matrix products, `moved` the bytes that its kernels read and write, `seconds` the least
    time on the device, and `memory_bound` the share of that time in kernels which wait for memory.
    """

    flops: int
    moved: int
    seconds: float
    memory_bound: float

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs a byte."""
        return self.flops / self.moved


def predict_roofline(
    model: ModelSpec, device: Device, batch_size: int = 1, precision: Precision = Precision.FLOAT32
) -> Roofline:
    """The least time of a forward pass: the sum over its kernels of max(FLOPs / peak, bytes / bandwidth).

    A kernel reads its inputs and weights and writes its outputs once; attention is one kernel, everything else runs as
    written, unfused. Caches that keep values between kernels, and compilers that fuse them, can be faster.

        >>> from t2tbuild import load_spec
        >>> roofline = predict_roofline(load_spec("t2t_vit_14").model, Device(flops=1e14, bandwidth=1e12))
        >>> round(roofline.intensity), round(roofline.memory_bound, 2)
        (32, 1.0)
    """
    program = trace(model, batch_size, precision.width, training=False)
    flops = moved = 0
    seconds = waiting = 0.0
    for one in program.operations:
        read_and_written = moved_bytes(one)
        least = _seconds(one, read_and_written, device)
        flops, moved, seconds = flops + one.flops, moved + read_and_written, seconds + least
        waiting += least * (one.flops < device.ridge * read_and_written)
    return Roofline(flops, moved, seconds, waiting / seconds)


def _seconds(operation: Operation, moved: int, device: Device) -> float:
    return max(operation.flops / device.flops, moved / device.bandwidth)
