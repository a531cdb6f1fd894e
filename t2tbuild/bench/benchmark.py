"""Benchmark several models in turn: latency, throughput, peak memory and share of the device's peak FLOP/s."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.compiler.config
from torch import Tensor, nn

from t2tbuild.bench.peak_flops import matmul_steps, peak_flops
from t2tbuild.bench.peak_memory import peak_memory, storage_bytes
from t2tbuild.bench.steps import inference_step, training_step
from t2tbuild.bench.timing import RoundProgress, Step, Timing, time_steps
from t2tbuild.errors import CostError, is_memory_full

RECOMPILE_LIMIT = 1000  # torch's default of 8 would run the ninth model of a class uncompiled, with a log message only


@dataclass(frozen=True)
class BenchModel:
    """A built model with a unique name and its cost per image; `input_size` is (channels, height, width)."""

    name: str
    module: nn.Module
    input_size: tuple[int, int, int]
    num_classes: int
    params: int
    macs: int


@dataclass(frozen=True)
class BenchConfig:
    """The settings of a benchmark. A `dtype` below float32 is autocast's; `training` times complete training steps."""

    device: torch.device
    batch_size: int
    dtype: torch.dtype
    compiled: bool
    training: bool


@dataclass(frozen=True)
class Measurement:
    """The result of one model for a batch.

    Attributes:
        memory: The peak of a step in bytes: weights, the optimiser's state, inputs and activations, without the
            workspaces that CUDA's libraries keep between steps.
        images_per_second: At the median time of a step.
        share_of_peak: The model's FLOP/s relative to the fastest matrix product of the same run. FLOPs are two per
            multiply-add of the batch; three times that in training, because backward has two products per product of
            the forward pass.
    """

    name: str
    params: int
    macs: int
    speed: Timing
    memory: int
    images_per_second: float
    share_of_peak: float


@dataclass(frozen=True)
class BenchResult:
    """The results of all models, in the given order; `peak_flops` is that of the fastest matrix product, in FLOP/s."""

    config: BenchConfig
    peak_flops: float
    measurements: tuple[Measurement, ...]

    def ratio(self, measurement: Measurement) -> float:
        """Return its throughput relative to that of the first model."""
        return measurement.images_per_second / self.measurements[0].images_per_second


def benchmark_models(
    models: Sequence[BenchModel],
    config: BenchConfig,
    *,
    seconds: float,
    rounds: int,
    listener: Callable[[str | RoundProgress], None] = lambda _: None,
) -> BenchResult:
    """Time models in turn on random batches until `seconds` have passed and at least `rounds` are done.

    Each model is run once, which compiles it if `compiled` is set; then its peak memory is measured; then the rounds
    begin. Large matrix products are timed in the same rounds as a reference. All models are on the device at once.
    The listener receives a text at each stage and the progress after each round. Raises CostError if the memory is full
    or a model cannot run.
    """
    assert len({model.name for model in models}) == len(models)
    steps: dict[str | int, Step] = {}
    memory: dict[str, int] = {}
    with _allow_recompiles() if config.compiled else nullcontext():
        for model in models:
            listener(f"{model.name}: {'compiling' if config.compiled else 'first run'}, peak memory")
            with _describe_errors(model.name, config):
                workload = _Workload(model, config)
                workload.step()
                memory[model.name] = workload.bytes() + peak_memory(workload.step, config.device)
            steps[model.name] = workload.step
        listener("matrix products, then rounds")
        with _describe_errors("all models together", config):
            products = matmul_steps(config.device, config.dtype)
            timings = time_steps(
                {**steps, **products}, config.device, seconds=seconds, rounds=rounds, listener=listener
            )
    peak = peak_flops({size: timings[size] for size in products})
    return BenchResult(
        config,
        peak,
        tuple(to_measurement(model, config, timings[model.name], memory[model.name], peak) for model in models),
    )


def to_measurement(model: BenchModel, config: BenchConfig, speed: Timing, memory: int, peak: float) -> Measurement:
    """Compute a model's results from its timing and `peak`, the FLOP/s of the fastest matrix product."""
    flops = 2 * model.macs * config.batch_size * (3 if config.training else 1)
    return Measurement(
        name=model.name,
        params=model.params,
        macs=model.macs,
        speed=speed,
        memory=memory,
        images_per_second=config.batch_size / speed.median,
        share_of_peak=flops / speed.median / peak,
    )


class _Workload:
    """A model on the device with a random batch, and the step to time."""

    def __init__(self, model: BenchModel, config: BenchConfig) -> None:
        self.model = model.module.to(config.device)
        generator = torch.Generator().manual_seed(0)
        shape = (config.batch_size, *model.input_size)
        self.images = torch.randn(shape, generator=generator).to(config.device)
        self.labels = torch.randint(model.num_classes, shape[:1], generator=generator).to(config.device)
        # Static shapes: for a second model of the class, torch would otherwise compile for dynamic shapes.
        module: nn.Module = torch.compile(self.model, dynamic=False) if config.compiled else self.model  # type: ignore[assignment]
        self.optimizer: torch.optim.Optimizer | None = None
        if config.training:
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=1e-5)
            self.step = training_step(module, self.images, self.labels, self.optimizer, config.dtype)
        else:
            self.step = inference_step(module, self.images, config.dtype)

    def bytes(self) -> int:
        """Return the bytes that stay alive between two steps."""
        state = self.optimizer.state.values() if self.optimizer else ()
        moments = [value for values in state for value in values.values() if isinstance(value, Tensor)]
        own = [*self.model.parameters(), *self.model.buffers(), self.images, self.labels]
        return storage_bytes(tensor for tensor in [*own, *moments] if tensor.device == self.images.device)


def _allow_recompiles() -> AbstractContextManager[None]:
    if not hasattr(torch.compiler.config, "recompile_limit"):  # an older torch, with the default limit
        return nullcontext()
    return torch.compiler.config.patch(recompile_limit=RECOMPILE_LIMIT)  # type: ignore[attr-defined, no-any-return]


@contextmanager
def _describe_errors(name: str, config: BenchConfig) -> Iterator[None]:
    """Convert torch's errors of a model that cannot run to a CostError with the model's name."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if is_memory_full(error):
            lower = f"a --batch-size below {config.batch_size}, a smaller image_size or fewer specs at once may fit"
            raise CostError(f"{name}: out of memory on {config.device}; {lower}") from error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, ValueError):  # e.g. a batch norm that is trained with one value
            raise CostError(f"{name}: cannot run a batch of {config.batch_size}: {reason}") from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise CostError(f"{name}: torch cannot compile it here: {reason}; leave out --compile") from error
        raise
