"""The memory of a recorded forward pass: its peak, what it saves, and the peak of a training step. Torch-free."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.symbolic.forward import FULL, Operation, Step, Value


@dataclass(slots=True)
class _Memory:
    """The bytes alive, and their peak."""

    alive: int = 0
    peak: int = 0

    def add(self, size: int, scratch: int = 0) -> None:
        self.alive += size
        self.peak = max(self.peak, self.alive + scratch)


def inference_peak(steps: Sequence[Step]) -> int:
    """Return the largest number of bytes alive at once in a forward pass that saves nothing."""
    memory = _Memory()
    for step in steps:
        if isinstance(step, Value):
            memory.add(-step.size * (step.base is None))
        else:
            memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
    return memory.peak


def saved_bytes(steps: Sequence[Step]) -> int:
    """Return the bytes of all operations' outputs that are saved for the backward pass, each tensor counted once."""
    outputs = {id(value) for one in _operations(steps) for value in one.outputs}
    saved = {id(value.storage): value.storage.size for one in _operations(steps) for value in _saved(one)}
    return sum(size for storage, size in saved.items() if storage in outputs)


def training_peak(steps: Sequence[Step]) -> int:
    """Return the largest number of bytes alive in a forward and backward pass, including the parameters' gradients.

    The backward pass runs the operations in reverse order. Each reads the gradients of its outputs, makes those of its
    inputs and parameters, and frees its saved tensors.
    """
    memory = _Memory()
    references: dict[int, int] = {}
    freed: set[int] = set()
    for step in steps:
        if isinstance(step, Value):
            freed.add(id(step))
            if step.base is None and not references.get(id(step)):
                memory.add(-step.size)
            continue
        memory.add(sum(value.size for value in step.outputs if value.base is None), step.scratch)
        for value in _saved(step):
            references[id(value.storage)] = references.get(id(value.storage), 0) + 1
    gradients: dict[int, int] = {}
    for step in reversed(_operations(steps)):
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
    if step.kind == "add":
        for value, size in itertools.zip_longest(differentiable, output_gradients[:1], fillvalue=0):
            assert isinstance(value, Value)
            if id(value) in gradients:
                memory.add(-size)
            else:
                gradients[id(value)] = size
        memory.add(step.trained * FULL)
        return
    new = [value for value in differentiable if id(value) not in gradients]
    accumulated = [value for value in differentiable if id(value) in gradients]
    for value in step.saved_for_backward:
        if value.recomputed is not None:
            memory.add(value.size + value.recomputed)
    memory.add(sum(value.size for value in (*new, *accumulated)) + step.trained * FULL, step.scratch)
    memory.add(-sum(value.size + value.recomputed for value in step.saved_for_backward if value.recomputed is not None))
    gradients |= {id(value): value.size for value in new}
    memory.add(-sum(value.size for value in accumulated) - sum(output_gradients))


def _operations(steps: Sequence[Step]) -> list[Operation]:
    return [step for step in steps if isinstance(step, Operation)]
