"""The roofline bound on the speed of a model on a device (Williams, Waterman and Patterson, CACM 52(4), 2009)."""

from dataclasses import dataclass

from t2tbuild.dtype import Precision
from t2tbuild.spec.model import ModelSpec
from t2tbuild.symbolic.forward import FULL, Operation
from t2tbuild.symbolic.model import record


@dataclass(frozen=True)
class Device:
    """The peak FLOP/s of a device (a multiply-add is two) and its memory bandwidth in bytes/s; see its data sheet."""

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The arithmetic intensity, in FLOPs per byte, below which the memory limits a kernel."""
        return self.flops / self.bandwidth


@dataclass(frozen=True)
class Roofline:
    """The bound for a forward pass of a batch.

    Attributes:
        flops: FLOPs of its matrix products.
        moved: Bytes that its kernels read and write.
        seconds: The lower bound of its time on the device.
        memory_bound: The share of that time, 0 to 1, in kernels that the memory limits.
    """

    flops: int
    moved: int
    seconds: float
    memory_bound: float

    @property
    def intensity(self) -> float:
        """The arithmetic intensity: FLOPs per byte."""
        return self.flops / self.moved


def predict_roofline(
    model: ModelSpec, device: Device, batch_size: int = 1, precision: Precision = Precision.FLOAT32
) -> Roofline:
    """Predict the least time of a forward pass: the sum over its kernels of max(FLOPs / peak, bytes / bandwidth).

    Each kernel reads its inputs and weights once and writes its outputs once. Attention is one kernel; nothing else is
    fused. Hardware that caches values between kernels, and compilers that fuse them, can be faster.

        >>> from t2tbuild import load_spec
        >>> roofline = predict_roofline(load_spec("t2t_vit_14").model, Device(flops=1e14, bandwidth=1e12))
        >>> round(roofline.intensity), round(roofline.memory_bound, 2)
        (32, 1.0)
    """
    flops = moved = 0
    seconds = memory_bound_seconds = 0.0
    for operation in record(model, batch_size, precision.width, training=False).steps:
        if isinstance(operation, Operation):
            flops_here, moved_here = 2 * batch_size * operation.macs, moved_bytes(operation)
            least = max(flops_here / device.flops, moved_here / device.bandwidth)
            flops, moved, seconds = flops + flops_here, moved + moved_here, seconds + least
            memory_bound_seconds += least * (flops_here < device.ridge * moved_here)
    return Roofline(flops, moved, seconds, memory_bound_seconds / seconds)


def moved_bytes(operation: Operation) -> int:
    """Return the bytes that a kernel reads and writes: inputs, parameters, outputs, scratch. Views move none."""
    if all(value.base for value in operation.outputs):
        return 0
    return (
        sum(value.size for value in (*operation.inputs, *operation.outputs))
        + operation.trained * FULL
        + operation.inner
    )
