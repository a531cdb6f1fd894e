"""Record the operations of modules in a program: the tensors that each makes and saves, and its FLOPs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from t2tbuild.cost.program import Operation, Program, Value
from t2tbuild.modules import recompute_policy

FULL, HALF = 4, 2
"""Bytes per element of float32, and of autocast's dtype for matrix products."""


@dataclass
class Recorder:
    """Records the program of `batch` images; `width` is the bytes per element in matrix products under autocast."""

    batch: int
    width: int
    training: bool
    program: Program = field(default_factory=Program)
    casts: list[Value] = field(default_factory=list)

    def free(self, *values: Value) -> None:
        """Record that Python frees these tensors; those saved for the backward pass stay alive."""
        self.program.free(*values)

    def free_copy(self, copy: Value, original: Value) -> None:
        """Free the result of `cast` if it is a copy."""
        if copy is not original:
            self.free(copy)

    def run(
        self,
        inputs: Sequence[Value],
        output: Value,
        saved_for_backward: Sequence[Value] = (),
        *,
        params: int = 0,
        flops: int = 0,
    ) -> Value:
        """Record an operation with one output; `params` in bytes, `flops` of the whole batch."""
        return self.program.run(Operation(inputs, [output], saved_for_backward, params, flops))

    def new(self, numbers: int, width: int) -> Value:
        """Return a new tensor with `numbers` elements per image."""
        return Value(self.batch * numbers * width, width)

    def view(self, value: Value, size: int) -> Value:
        """Record a view of a part of a tensor."""
        view = Value(size, value.width, value.storage)
        self.program.run(Operation([value], [view]))
        return view

    def replace(self, old: Value, new: Value) -> Value:
        """Return `new`, and free `old`, as an assignment to the same variable does."""
        self.free(old)
        return new

    def like(self, value: Value, saved_for_backward: list[Value], params: int = 0) -> Value:
        """Record an element-wise operation on a tensor."""
        return self.run([value], Value(value.size, value.width), saved_for_backward, params=params)

    def add(self, x: Value, y: Value) -> Value:
        """Record a residual addition, in the wider dtype of the two."""
        width = max(x.width, y.width)
        out = Value(x.size // x.width * width, width)
        return self.program.run(Operation([x, y], [out], passes_gradient=True))

    def recomputed(self, value: Value, scratch: int = 0) -> Value:
        """Mark a tensor as recomputed in the backward pass if it is large, with `scratch` temporary bytes."""
        value.recomputed = scratch if value.size >= recompute_policy.RECOMPUTE_THRESHOLD else None
        return value

    def norm(self, x: Value, tokens: int, dim: int) -> Value:
        """Record a LayerNorm, which saves its input and two statistics per token."""
        statistics = self.new(2 * tokens, FULL)
        out = Value(x.size, x.width)
        self.program.run(Operation([x], [out, statistics], [x, statistics], 2 * dim * FULL))
        self.free(statistics)
        return out

    def cast(self, x: Value, width: int) -> Value:
        """Return a copy of a tensor with another width, or the tensor itself if it has that width."""
        if x.width == width:
            return x
        return self.run([x], Value(x.size // x.width * width, width))

    def linear(self, x: Value, tokens: int, in_dim: int, out_dim: int, *, bias: bool = True) -> Value:
        """Record a linear layer, or a convolution as one; it saves its input."""
        cast, params = self.cast(x, self.width), in_dim * out_dim + out_dim * bias
        weight = [self._cached(params)] if self.width == HALF else []
        flops = 2 * self.batch * tokens * in_dim * out_dim
        out = self.new(tokens * out_dim, self.width)
        self.program.run(Operation([cast, *weight], [out], [cast, *weight], params * FULL, flops))
        self.free_copy(cast, x)
        self.free(*([] if self.training else weight))
        return out

    def _cached(self, params: int) -> Value:
        """Record autocast's copy of a weight, which in training lives until the forward pass ends."""
        cast = Value(params * HALF, HALF, needs_grad=False)
        self.program.run(Operation([], [cast]))
        self.casts += [cast] * self.training
        return cast

    def attention(self, q: Value, k: Value, v: Value, tokens: int, dim: int, heads: int) -> Value:
        """Record softmax(q k^T) v as one fused kernel, which saves the logarithm of the softmax's sum."""
        out, sums = self.new(tokens * dim, q.width), self.new(tokens * heads, FULL)
        flops = 4 * self.batch * tokens * tokens * dim
        self.program.run(Operation([q, k, v], [out, sums], [q, k, v, out, sums], flops=flops))
        self.free(sums)
        return out

    def split(self, x: Value, count: int) -> list[Value]:
        """Record views of equal parts; the backward pass concatenates their gradients in a new tensor."""
        views = [Value(x.size // count, x.width, x.storage) for _ in range(count)]
        self.program.run(Operation([x], views))
        return views

    def cat(self, *values: Value) -> Value:
        """Record a concatenation."""
        return self.run(list(values), Value(sum(value.size for value in values), values[0].width))

    def dropout(self, x: Value, rate: float) -> Value:
        """Record dropout with a mask as wide as the tensor, as on a CPU; on a GPU it takes one byte per element."""
        if not (self.training and rate):
            return x
        mask = Value(x.size, x.width)
        self.program.run(Operation([], [mask]))
        out = self.like(x, [mask])
        self.free(mask, x)
        return out

    def drop_path(self, x: Value, rate: float) -> Value:
        """Record stochastic depth: a scaled copy; its mask has one element per image."""
        return self.replace(x, self.like(x, [])) if self.training and rate else x
