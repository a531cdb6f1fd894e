"""A model's step as a list of operations on tensors, torch-free: enough to tell its memory and its traffic.

Recorded in the order in which the modules run, with the moments at which Python lets go of a tensor. From one program
follow the peak of inference (what is alive at once), what training keeps for the backward pass, the peak of a training
step, and the bytes that operations read and write.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Value:
    """A tensor: `size` bytes, which it owns itself unless it is a view of `base`; `width` is 4 or 2 bytes a number.

    One that is `remade` is not kept for the backward pass, which makes it anew where it is needed, and holds so many
    bytes more as long as it needs it.
    """

    size: int
    width: int = 4
    base: "Value | None" = None
    needs_grad: bool = True
    remade: int | None = None

    @property
    def storage(self) -> "Value":
        return self.base or self


@dataclass(slots=True)
class Operation:
    """One kernel: what it reads and gives, what it keeps for its backward pass, and the bytes of its own parameters.

    `scratch` is memory that it takes and gives back, `inner` bytes that it moves there. `shares` marks an addition: its
    backward hands the gradient on as it is, without another copy.
    """

    inputs: Sequence[Value]
    outputs: Sequence[Value]
    keeps: Sequence[Value] = ()
    params: int = 0
    flops: int = 0
    scratch: int = 0
    inner: int = 0
    shares: bool = False


@dataclass(slots=True)
class Program:
    """Operations, and between them the values that are let go."""

    steps: list[Operation | Value] = field(default_factory=list)

    def run(self, operation: Operation) -> Value:
        """Record an operation; gives its first output."""
        needs_grad = bool(operation.params) or any(value.needs_grad for value in operation.inputs)
        for value in operation.outputs:
            value.needs_grad = needs_grad
        self.steps.append(operation)
        return operation.outputs[0]

    def let_go(self, *values: Value) -> None:
        """Record that nobody refers to these values any more, but for what an operation keeps."""
        self.steps += values

    @property
    def operations(self) -> list[Operation]:
        return [step for step in self.steps if isinstance(step, Operation)]


@dataclass(slots=True)
class _Memory:
    """Bytes alive, and the most that were."""

    alive: int = 0
    peak: int = 0

    def add(self, size: int, scratch: int = 0) -> None:
        self.alive += size
        self.peak = max(self.peak, self.alive + scratch)


def inference_peak(program: Program) -> int:
    """The most bytes of values that are alive at once in a forward pass that keeps nothing."""
    memory = _Memory()
    for step in program.steps:
        if isinstance(step, Value):
            memory.add(-step.size * (step.base is None))
        else:
            memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
    return memory.peak


def kept_bytes(program: Program) -> int:
    """Bytes of what operations made and the backward pass needs; what several keep counts once."""
    made = {id(value) for one in program.operations for value in one.outputs}
    kept = {id(value.storage): value.storage.size for one in program.operations for value in _kept(one)}
    return sum(size for storage, size in kept.items() if storage in made)


def training_peak(program: Program) -> int:
    """The most bytes alive in a forward and backward pass, gradients of parameters included.

    Backward runs the operations from the last to the first: each reads the gradient of its outputs, makes those of its
    inputs and parameters, and frees what it kept.
    """
    memory = _Memory()
    keepers: dict[int, int] = {}
    gone: set[int] = set()
    for step in program.steps:
        if isinstance(step, Value):
            gone.add(id(step))
            if step.base is None and not keepers.get(id(step)):
                memory.add(-step.size)
            continue
        memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
        for value in _kept(step):
            keepers[id(value.storage)] = keepers.get(id(value.storage), 0) + 1
    gradients: dict[int, int] = {}
    for step in reversed(program.operations):
        _backward(step, gradients, memory)
        for value in _kept(step):
            keepers[id(value.storage)] -= 1
            if not keepers[id(value.storage)] and id(value.storage) in gone:
                memory.add(-value.storage.size)
    return memory.peak


def _kept(step: Operation) -> list[Value]:
    """What the backward pass of an operation needs and does not make anew."""
    return [value for value in step.keeps if value.remade is None]


def _backward(step: Operation, gradients: dict[int, int], memory: _Memory) -> None:
    if not step.outputs[0].needs_grad:
        return
    arrived = [gradients.pop(id(value), value.size) for value in step.outputs]
    wanted = [value for value in step.inputs if value.needs_grad]
    if step.shares:
        for value, size in itertools.zip_longest(wanted, arrived[:1], fillvalue=0):
            assert isinstance(value, Value)
            if id(value) in gradients:
                memory.add(-size)
            else:
                gradients[id(value)] = size
        memory.add(step.params)
        return
    new = [value for value in wanted if id(value) not in gradients]
    again = [value for value in wanted if id(value) in gradients]
    for value in step.keeps:
        if value.remade is not None:
            memory.add(value.size + value.remade)
    memory.add(sum(value.size for value in (*new, *again)) + step.params, step.scratch)
    memory.add(-sum(value.size + value.remade for value in step.keeps if value.remade is not None))
    gradients |= {id(value): value.size for value in new}
    memory.add(-sum(value.size for value in again) - sum(arrived))


def moved_bytes(operation: Operation) -> int:
    """What a kernel reads and writes: inputs, parameters, outputs, and inside; nothing where it only makes views."""
    if all(value.base for value in operation.outputs):
        return 0
    return sum(value.size for value in (*operation.inputs, *operation.outputs)) + operation.params + operation.inner
