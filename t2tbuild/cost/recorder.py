"""Recording a program: the operations that modules are made of, each with what it makes, keeps and computes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from t2tbuild.cost.program import Operation, Program, Value
from t2tbuild.modules import recompute_policy

FULL, HALF = 4, 2
"""Bytes of a number of float32, and of what autocast computes products in."""


@dataclass
class Recorder:
    """Writes a program for `batch` images; `width` is the bytes of a number in products, as autocast has them."""

    batch: int
    width: int
    training: bool
    program: Program = field(default_factory=Program)
    casts: list[Value] = field(default_factory=list)

    def let_go(self, *values: Value) -> None:
        """Nobody refers to these values any more, but for what an operation keeps."""
        self.program.let_go(*values)

    def let_go_copy(self, copy: Value, original: Value) -> None:
        """Nobody refers to what `cast` gave for a value, where that is a copy."""
        if copy is not original:
            self.let_go(copy)

    def run(
        self, inputs: Sequence[Value], output: Value, keeps: Sequence[Value] = (), *, params: int = 0, flops: int = 0
    ) -> Value:
        """An operation with one output; `params` in bytes, `flops` of the whole batch."""
        return self.program.run(Operation(inputs, [output], keeps, params, flops))

    def new(self, numbers: int, width: int) -> Value:
        """A tensor of so many numbers an image."""
        return Value(self.batch * numbers * width, width)

    def view(self, value: Value, size: int) -> Value:
        """A part of a value, without a copy."""
        view = Value(size, value.width, value.storage)
        self.program.run(Operation([value], [view]))
        return view

    def replace(self, old: Value, new: Value) -> Value:
        """The new value, where the old one's name now stands for it."""
        self.let_go(old)
        return new

    def like(self, value: Value, keeps: list[Value], params: int = 0) -> Value:
        """Element-wise work on a value."""
        return self.run([value], Value(value.size, value.width), keeps, params=params)

    def add(self, x: Value, y: Value) -> Value:
        """A residual sum, in the wider of both widths."""
        width = max(x.width, y.width)
        out = Value(x.size // x.width * width, width)
        return self.program.run(Operation([x, y], [out], shares=True))

    def remade(self, value: Value, scratch: int = 0) -> Value:
        """The value, which the backward pass makes anew where it is large, with so many bytes more while it does."""
        value.remade = scratch if value.size >= recompute_policy.RECOMPUTE_THRESHOLD else None
        return value

    def norm(self, x: Value, tokens: int, dim: int) -> Value:
        """LayerNorm, which keeps its input and two statistics a token."""
        statistics = self.new(2 * tokens, FULL)
        out = Value(x.size, x.width)
        self.program.run(Operation([x], [out, statistics], [x, statistics], 2 * dim * FULL))
        self.let_go(statistics)
        return out

    def cast(self, x: Value, width: int) -> Value:
        """A copy of a value in another width; the value itself where it has that already."""
        if x.width == width:
            return x
        return self.run([x], Value(x.size // x.width * width, width))

    def linear(self, x: Value, tokens: int, in_dim: int, out_dim: int, *, bias: bool = True) -> Value:
        """A linear map, or a convolution as one: keeps what it reads."""
        read, params = self.cast(x, self.width), in_dim * out_dim + out_dim * bias
        weight = [self._cached(params)] if self.width == HALF else []
        flops = 2 * self.batch * tokens * in_dim * out_dim
        out = self.new(tokens * out_dim, self.width)
        self.program.run(Operation([read, *weight], [out], [read, *weight], params * FULL, flops))
        self.let_go_copy(read, x)
        self.let_go(*([] if self.training else weight))
        return out

    def _cached(self, params: int) -> Value:
        """Autocast's copy of a weight, which it holds in training until the forward pass ends."""
        cast = Value(params * HALF, HALF, needs_grad=False)
        self.program.run(Operation([], [cast]))
        self.casts += [cast] * self.training
        return cast

    def attend(self, q: Value, k: Value, v: Value, tokens: int, dim: int, heads: int) -> Value:
        """softmax(q k^T) v by a fused kernel, which keeps the logarithm of the softmax's sum."""
        out, sums = self.new(tokens * dim, q.width), self.new(tokens * heads, FULL)
        flops = 4 * self.batch * tokens * tokens * dim
        self.program.run(Operation([q, k, v], [out, sums], [q, k, v, out, sums], flops=flops))
        self.let_go(sums)
        return out

    def split(self, x: Value, count: int) -> list[Value]:
        """Views of equal parts; their gradients are put together again in a tensor of their own."""
        views = [Value(x.size // count, x.width, x.storage) for _ in range(count)]
        self.program.run(Operation([x], views))
        return views

    def cat(self, *values: Value) -> Value:
        """Values side by side."""
        return self.run(list(values), Value(sum(value.size for value in values), values[0].width))

    def dropout(self, x: Value, rate: float) -> Value:
        """Dropout with a mask as wide as the value, as on the CPU; a GPU's takes one byte a number."""
        if not (self.training and rate):
            return x
        mask = Value(x.size, x.width)
        self.program.run(Operation([], [mask]))
        out = self.like(x, [mask])
        self.let_go(mask, x)
        return out

    def drop_path(self, x: Value, rate: float) -> Value:
        """Stochastic depth: a scaled copy, with a mask of a number an image."""
        return self.replace(x, self.like(x, [])) if self.training and rate else x
