"""A step of a model as a list of operations on tensors; its memory and memory traffic follow from it. Torch-free.

A program lists the operations in the order in which the modules run, and the moments at which Python frees a tensor.
From it follow the peak of inference, the bytes that training saves for the backward pass, the peak of a training step,
and the bytes that the operations read and write.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Value:
    """A tensor.

    Attributes:
        size: Bytes.
        width: Bytes per element: 4 or 2.
        base: The tensor whose storage it shares, if it is a view.
        needs_grad: Whether the backward pass computes its gradient.
        recomputed: Bytes of scratch if the backward pass recomputes it; None if it is saved instead.
    """

    size: int
    width: int = 4
    base: "Value | None" = None
    needs_grad: bool = True
    recomputed: int | None = None

    @property
    def storage(self) -> "Value":
        return self.base or self


@dataclass(slots=True)
class Operation:
    """One kernel.

    Attributes:
        inputs, outputs: The tensors that it reads and makes.
        saved_for_backward: The tensors that its backward pass needs.
        params: Bytes of its own parameters.
        flops: FLOPs of its matrix products.
        scratch: Bytes of temporary memory.
        inner: Bytes that it reads and writes in the temporary memory.
        passes_gradient: Whether the backward pass passes the gradient on without a copy, as that of an addition does.
    """

    inputs: Sequence[Value]
    outputs: Sequence[Value]
    saved_for_backward: Sequence[Value] = ()
    params: int = 0
    flops: int = 0
    scratch: int = 0
    inner: int = 0
    passes_gradient: bool = False


@dataclass(slots=True)
class Program:
    """Operations, and between them the tensors that are freed."""

    steps: list[Operation | Value] = field(default_factory=list)

    def run(self, operation: Operation) -> Value:
        """Record an operation and return its first output."""
        needs_grad = bool(operation.params) or any(value.needs_grad for value in operation.inputs)
        for value in operation.outputs:
            value.needs_grad = needs_grad
        self.steps.append(operation)
        return operation.outputs[0]

    def free(self, *values: Value) -> None:
        """Record that Python frees these tensors; those saved for the backward pass stay alive."""
        self.steps += values

    @property
    def operations(self) -> list[Operation]:
        return [step for step in self.steps if isinstance(step, Operation)]


@dataclass(slots=True)
class _Memory:
    """The bytes alive, and their peak."""

    alive: int = 0
    peak: int = 0

    def add(self, size: int, scratch: int = 0) -> None:
        self.alive += size
        self.peak = max(self.peak, self.alive + scratch)


def inference_peak(program: Program) -> int:
    """Return the largest number of bytes alive at once in a forward pass that saves nothing."""
    memory = _Memory()
    for step in program.steps:
        if isinstance(step, Value):
            memory.add(-step.size * (step.base is None))
        else:
            memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
    return memory.peak


def saved_bytes(program: Program) -> int:
    """Return the bytes of all operations' outputs that are saved for the backward pass, each tensor counted once."""
    outputs = {id(value) for one in program.operations for value in one.outputs}
    saved = {id(value.storage): value.storage.size for one in program.operations for value in _saved(one)}
    return sum(size for storage, size in saved.items() if storage in outputs)


def training_peak(program: Program) -> int:
    """Return the largest number of bytes alive in a forward and backward pass, including the parameters' gradients.

    The backward pass runs the operations in reverse order. Each reads the gradients of its outputs, makes those of its
    inputs and parameters, and frees its saved tensors.
    """
    memory = _Memory()
    references: dict[int, int] = {}
    freed: set[int] = set()
    for step in program.steps:
        if isinstance(step, Value):
            freed.add(id(step))
            if step.base is None and not references.get(id(step)):
                memory.add(-step.size)
            continue
        memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
        for value in _saved(step):
            references[id(value.storage)] = references.get(id(value.storage), 0) + 1
    gradients: dict[int, int] = {}
    for step in reversed(program.operations):
        _backward(step, gradients, memory)
        for value in _saved(step):
            references[id(value.storage)] -= 1
            if not references[id(value.storage)] and id(value.storage) in freed:
                memory.add(-value.storage.size)
    return memory.peak


def _saved(step: Operation) -> list[Value]:
    """Return the tensors that an operation saves, without those that are recomputed."""
    return [value for value in step.saved_for_backward if value.recomputed is None]


def _backward(step: Operation, gradients: dict[int, int], memory: _Memory) -> None:
    if not step.outputs[0].needs_grad:
        return
    output_gradients = [gradients.pop(id(value), value.size) for value in step.outputs]
    differentiable = [value for value in step.inputs if value.needs_grad]
    if step.passes_gradient:
        for value, size in itertools.zip_longest(differentiable, output_gradients[:1], fillvalue=0):
            assert isinstance(value, Value)
            if id(value) in gradients:
                memory.add(-size)
            else:
                gradients[id(value)] = size
        memory.add(step.params)
        return
    new = [value for value in differentiable if id(value) not in gradients]
    accumulated = [value for value in differentiable if id(value) in gradients]
    for value in step.saved_for_backward:
        if value.recomputed is not None:
            memory.add(value.size + value.recomputed)
    memory.add(sum(value.size for value in (*new, *accumulated)) + step.params, step.scratch)
    memory.add(-sum(value.size + value.recomputed for value in step.saved_for_backward if value.recomputed is not None))
    gradients |= {id(value): value.size for value in new}
    memory.add(-sum(value.size for value in accumulated) - sum(output_gradients))


def moved_bytes(operation: Operation) -> int:
    """Return the bytes that a kernel reads and writes: inputs, parameters, outputs, scratch. Views move none."""
    if all(value.base for value in operation.outputs):
        return 0
    return sum(value.size for value in (*operation.inputs, *operation.outputs)) + operation.params + operation.inner
