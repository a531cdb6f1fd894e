"""Latency, memory and use of the device, of several models in turn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from t2tbuild.bench.peak_flops import matmul_peak, matmul_steps
from t2tbuild.bench.peak_memory import peak_memory, storage_bytes
from t2tbuild.bench.steps import inference_step, training_step
from t2tbuild.bench.timing import Rounds, Speed, Step, measure_speed
from t2tbuild.errors import CostError, is_memory_full

RECOMPILES = 1000  # of one class: torch would run the ninth model of a class uncompiled and say so in a log only


@dataclass(frozen=True)
class Subject:
    """A built model with its cost of one image, under a name of its own; `input_size` is (channels, height, width)."""

    name: str
    module: nn.Module
    input_size: tuple[int, int, int]
    num_classes: int
    params: int
    macs: int


@dataclass(frozen=True)
class Setup:
    """What all models of a bench share. `dtype` below float32 is autocast's; `training` times whole training steps."""

    device: torch.device
    batch_size: int
    dtype: torch.dtype
    compiled: bool
    training: bool


@dataclass(frozen=True)
class Measurement:
    """What one model takes for a batch.

    `memory` is the bytes at the peak of a step: weights, the optimiser's state, inputs and all that it makes; a
    workspace that CUDA's libraries keep between steps is not in it.
    `share_of_peak` is the FLOP/s of the model by those of the best matrix product of the same minutes: two for each
    multiply-add of the batch, three times that in training, as backward multiplies twice for each product of forward.
    """

    name: str
    params: int
    macs: int
    speed: Speed
    memory: int
    images_per_second: float
    share_of_peak: float


@dataclass(frozen=True)
class Bench:
    """All models of a run in the order that they were named in; `matmul_peak` is in FLOP/s."""

    setup: Setup
    matmul_peak: float
    measurements: tuple[Measurement, ...]

    def ratio(self, measurement: Measurement) -> float:
        """Its images a second by those of the first model."""
        return measurement.images_per_second / self.measurements[0].images_per_second


def measure_models(
    subjects: Sequence[Subject],
    setup: Setup,
    *,
    seconds: float,
    rounds: int,
    listener: Callable[[str | Rounds], None] = lambda _: None,
) -> Bench:
    """Time models in turn on batches of normal numbers until `seconds` have passed and at least `rounds` are done.

    Every model is run, which compiles it where that is wanted, then its memory is taken, then the rounds begin; the
    matrix products of the yardstick take their turns among the models. All models are on the device at once. The
    listener hears what is being done, and every round. Raises CostError when the memory is full or a model cannot run.
    """
    assert len({subject.name for subject in subjects}) == len(subjects)
    steps: dict[str | int, Step] = {}
    memory: dict[str, int] = {}
    with torch._dynamo.config.patch(recompile_limit=RECOMPILES) if setup.compiled else _nothing():
        for subject in subjects:
            listener(f"{subject.name}: {'compiling' if setup.compiled else 'first run'}, peak memory")
            with _told(subject.name, setup):
                load = _Load(subject, setup)
                load.step()
                memory[subject.name] = load.bytes() + peak_memory(load.step, setup.device)
            steps[subject.name] = load.step
        listener("matrix products, then rounds")
        with _told("all models together", setup):
            products = matmul_steps(setup.device, setup.dtype)
            speeds = measure_speed(
                {**steps, **products}, setup.device, seconds=seconds, rounds=rounds, listener=listener
            )
    peak = matmul_peak({size: speeds[size] for size in products})
    return Bench(
        setup,
        peak,
        tuple(measurement(subject, setup, speeds[subject.name], memory[subject.name], peak) for subject in subjects),
    )


def measurement(subject: Subject, setup: Setup, speed: Speed, memory: int, peak: float) -> Measurement:
    """The figures that follow from a model's speed and `peak`, the FLOP/s of the best matrix product."""
    flops = 2 * subject.macs * setup.batch_size * (3 if setup.training else 1)
    return Measurement(
        name=subject.name,
        params=subject.params,
        macs=subject.macs,
        speed=speed,
        memory=memory,
        images_per_second=setup.batch_size / speed.median,
        share_of_peak=flops / speed.median / peak,
    )


class _Load:
    """A model on the device with its batch, and its step."""

    def __init__(self, subject: Subject, setup: Setup) -> None:
        self.model = subject.module.to(setup.device)
        generator = torch.Generator().manual_seed(0)
        shape = (setup.batch_size, *subject.input_size)
        self.images = torch.randn(shape, generator=generator).to(setup.device)
        self.labels = torch.randint(subject.num_classes, shape[:1], generator=generator).to(setup.device)
        # Shapes as they are: of a second model torch would else compile one for shapes of any size.
        model: nn.Module = torch.compile(self.model, dynamic=False) if setup.compiled else self.model  # type: ignore[assignment]
        self.optimizer: torch.optim.Optimizer | None = None
        if setup.training:
            learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self.optimizer = torch.optim.AdamW(learned, lr=1e-5)
            self.step = training_step(model, self.images, self.labels, self.optimizer, setup.dtype)
        else:
            self.step = inference_step(model, self.images, setup.dtype)

    def bytes(self) -> int:
        """Of all that stays between two steps."""
        state = self.optimizer.state.values() if self.optimizer else ()
        moments = [value for values in state for value in values.values() if isinstance(value, Tensor)]
        own = [*self.model.parameters(), *self.model.buffers(), self.images, self.labels]
        return storage_bytes(tensor for tensor in [*own, *moments] if tensor.device == self.images.device)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _told(name: str, setup: Setup) -> Iterator[None]:
    """Turn what torch raises when a model cannot run into a CostError that names it."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if is_memory_full(error):
            lower = f"a --batch-size below {setup.batch_size}, a smaller image_size or fewer specs at once may fit"
            raise CostError(f"{name}: out of memory on {setup.device}; {lower}") from error
        said = next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, ValueError):  # e.g. a batch norm that is trained with one value
            raise CostError(f"{name}: cannot run a batch of {setup.batch_size}: {said}") from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise CostError(f"{name}: torch cannot compile it here: {said}; leave out --compile") from error
        raise
