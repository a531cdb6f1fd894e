"""Record a forward pass: its operations on tensors, what each costs and saves for the backward pass, and what is freed.

Shapes are those of one image: N tokens of C channels are (N, C). dtypes are those of torch on a CPU; under autocast,
layers and attention take the narrower one, weights, the parameters of norms and the residual stream stay in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from t2tbuild.layout import Grid
from t2tbuild.modules import recompute_policy
from t2tbuild.symbolic.leaf import PRODUCTS, Leaf

FULL, HALF = 4, 2
"""Bytes per element of float32, and of autocast's dtype for matrix products."""

Shape = tuple[int, int]


@dataclass(eq=False, slots=True)
class Value:
    """A tensor in memory, as operations refer to it.

    Attributes:
        size: Bytes.
        width: Bytes per element: 4 or 2.
        base: The tensor whose storage it shares, if it is a view.
        needs_grad: Whether the backward pass computes its gradient.
        recomputed: Bytes of scratch if the backward pass recomputes it; None if it is saved instead.
        uses: The number of `Tensor` objects of its storage.
    """

    size: int
    width: int = FULL
    base: "Value | None" = None
    needs_grad: bool = True
    recomputed: int | None = None
    uses: int = 0

    @property
    def storage(self) -> "Value":
        return self.base or self


@dataclass(slots=True)
class Operation:
    """One kernel.

    Attributes:
        kind: What it computes: linear, norm, attention, products, add, cat, view, and others.
        name: The path of its layer, or of the module that runs it with a dot at the end; empty for the outermost.
        inputs, outputs: The tensors that it reads and makes.
        saved_for_backward: The tensors that its backward pass needs.
        macs: Multiply-adds of its matrix products for one image. LayerNorm has none here, unlike in its leaf.
        trained: The number of its own trained parameters.
        scratch: Bytes of temporary memory.
        inner: Bytes that it reads and writes in the temporary memory.
    """

    kind: str
    name: str
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    saved_for_backward: Sequence[Value] = ()
    macs: int = 0
    trained: int = 0
    scratch: int = 0
    inner: int = 0


Step = Operation | Value
"""An operation, or a tensor that is freed there unless the backward pass needs it."""


class Tensor:
    """A tensor of a forward pass. It is freed when Python drops the last reference to it, as in torch."""

    __slots__ = ("_steps", "shape", "value", "width")

    def __init__(self, shape: Shape, value: Value, steps: list[Step]) -> None:
        self.shape, self.value, self.width, self._steps = shape, value, value.width, steps
        (value.base or value).uses += 1

    def __del__(self) -> None:
        storage = self.value.base or self.value
        storage.uses -= 1
        if not storage.uses:
            self._steps.append(storage)


class Split(NamedTuple):
    """The tokens of a soft split before they are unfolded: their grid and width, and the feature map behind."""

    grid: Grid
    width: int
    source: Tensor

    @property
    def shape(self) -> Shape:
        return self.grid.tokens, self.width


class Forward:
    """Records the forward pass of a batch.

    Args:
        batch_size: Number of images.
        width: Bytes per element in matrix products: FULL for float32, HALF under autocast.
        training: Whether the pass is recorded for a backward pass, with dropout.

    `steps` are its operations, and between them the tensors that are freed. The `name` of a layer or a parameter is
    that in the built module, and empty for a module that is itself a layer.
    """

    def __init__(self, batch_size: int = 1, width: int = FULL, *, training: bool = False) -> None:
        self.batch_size, self.width, self.training = batch_size, width, training
        self.steps: list[Step] = []
        self._leaves: list[Leaf] = []
        self._own: list[Leaf] = []
        self._path = ""
        self._casts: list[Value] = []

    @property
    def leaves(self) -> list[Leaf]:
        """The costs of the layers, parameters and products for one image, in the order of fvcore's rows."""
        return [*self._leaves, *self._own]

    def module(self, name: str, function: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
        """Run the function of a submodule. Its own parameters and products follow its layers, as in fvcore's rows."""
        outer, own = self._path, self._own
        self._path, self._own = f"{outer}{name}.", []
        out = function(self, x, *args)
        self._leaves += self._own
        self._path, self._own = outer, own
        return out

    def image(self, pixels: int, channels: int) -> Tensor:
        """Return the batch of images, which needs no gradient and is never freed."""
        value = self._value((pixels, channels), FULL)
        value.needs_grad, value.uses = False, 1
        return Tensor((pixels, channels), value, self.steps)

    def parameter(self, name: str, size: int, *, trained: bool = True) -> int:
        """Count a parameter of the module itself, and return `size`, or 0 if it is frozen."""
        self._own.append(Leaf(self._path + name, 0, size * trained, size * (not trained)))
        return size * trained

    def apply(
        self,
        kind: str,
        inputs: Sequence[Tensor],
        shape: Shape | None = None,
        *,
        saves: int = 0,
        saves_output: bool = False,
        width: int | None = None,
        macs: int = 0,
        trained: int = 0,
        name: str = "",
        statistics: Shape | None = None,
    ) -> Tensor:
        """Record an operation with one output.

        Args:
            kind: What it computes.
            inputs: The tensors that it reads.
            shape, width: Those of the output; left out, those of the first input.
            saves: How many of the first inputs the backward pass needs.
            saves_output: Whether it needs the output.
            macs: Multiply-adds of a matrix product for one image, which is counted as one of the module's own.
            trained: The number of trained parameters that it reads; see `parameter`.
            name: The name of its layer, if it is one.
            statistics: The shape of float32 values that it also saves.
        """
        values, shape = [one.value for one in inputs], shape or inputs[0].shape
        out = self._value(shape, width or inputs[0].width)
        outputs, saved = [out], [*values[:saves], *[out] * saves_output]
        if statistics:
            outputs.append(self._value(statistics, FULL))
            saved.append(outputs[1])
        if macs:
            self._own.append(Leaf(self._path + PRODUCTS, macs, 0))
        made = self._run(shape, kind, name, values, outputs, saved, macs, trained)
        self.steps += outputs[1:]
        return made

    def linear(self, name: str, x: Tensor, out_dim: int, *, bias: bool = True) -> Tensor:
        """Record a linear layer, (N, C) -> (N, out_dim): N C D MACs. It saves its input."""
        return self._linear(name, x, *x.shape, out_dim, bias)

    def convolution(self, name: str, x: Tensor, tokens: int, kernel: int, out_dim: int) -> Tensor:
        """Record a convolution of a square kernel with bias, to (tokens, out_dim), as a linear layer."""
        return self._linear(name, x, tokens, x.shape[1] * kernel**2, out_dim, True)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Record a LayerNorm: 5 N C MACs, fvcore's rate. It saves its input and two statistics per token."""
        tokens, dim = x.shape
        trained = self._count(name, 5 * tokens * dim, 2 * dim)
        return self.apply("norm", [x], saves=1, trained=trained, name=name, statistics=(2 * tokens, 1))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int, *, keys: int | None = None) -> Tensor:
        """Record softmax(q k^T) v as one fused kernel: 2 N K C MACs. It saves the logarithm of the softmax's sum.

        Each of the N queries attends to K `keys`, by default all: within windows, to those of its window.
        """
        tokens, dim = q.shape
        macs = 2 * tokens * (tokens if keys is None else keys) * dim
        return self.apply("attention", [q, k, v], saves=3, saves_output=True, macs=macs, statistics=(tokens, heads))

    def unfold(self, split: Split) -> Tensor:
        """Record the tokens of a soft split. Training saves the feature map and recomputes large tokens."""
        x = split.source.value
        tokens = self._value(split.shape, x.width)
        _recompute(tokens)
        saved, size = [x] if tokens.recomputed is not None and x.needs_grad else [], tokens.size
        return self._run(split.shape, "unfold", "", [x], [tokens], saved, 0, 0, size, 2 * size)

    def project(self, name: str, split: Split, out_dim: int, *, bias: bool = True, norm: str = "") -> Tensor:
        """Record `SoftSplit.project`: a soft split, a LayerNorm if `norm` names one, and a linear layer.

        Inference unfolds the tokens of a few images at a time.
        """
        images = recompute_policy.images_per_chunk(split.shape[0] * split.shape[1] * split.source.width)
        if not self.training and self.batch_size > images:
            return self._project_chunks(name, split, out_dim, bias, norm, images)
        tokens = self.unfold(split)
        if norm:
            tokens = self.recomputed(self.norm(norm, tokens), tokens.value.size)
        return self.linear(name, tokens, out_dim, bias=bias)

    def _project_chunks(self, name: str, split: Split, out_dim: int, bias: bool, norm: str, images: int) -> Tensor:
        """Record `project` as one operation whose temporary memory is the tokens of a number of images."""
        (tokens, dim), x, batch = split.shape, split.source.value, self.batch_size
        size, out = batch * tokens * dim * x.width, self._value((tokens, out_dim), self.width)
        trained = self._count(norm, 5 * tokens * dim, 2 * dim) if norm else 0
        macs = tokens * dim * out_dim
        trained += self._count(name, macs, dim * out_dim + out_dim * bias)
        part, chunks = images * size // batch, -(-batch // images)
        cast = part * self.width // x.width if self.width != x.width else 0
        scratch = max(out.size, 2 * part - out.size * images // batch, part + cast)
        inner = (6 if norm else 4) * size + 2 * cast * chunks + (chunks - 1) * trained * FULL + 2 * out.size
        return self._run((tokens, out_dim), "project", name, [x], [out], [], macs, trained, scratch, inner)

    def recomputed(self, x: Tensor, scratch: int = 0) -> Tensor:
        """Mark a tensor as recomputed in the backward pass if it is large, with `scratch` temporary bytes."""
        _recompute(x.value, scratch)
        return x

    def gelu(self, x: Tensor) -> Tensor:
        """Record GELU, which saves its input."""
        return self.apply("gelu", [x], saves=1)

    def scale(self, name: str, x: Tensor, *, width: int | None = None) -> Tensor:
        """Record a product with one trained weight per channel, which costs no MACs."""
        return self.apply("scale", [x], saves=1, width=width, trained=self._count(name, 0, x.shape[1]), name=name)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Record an addition, in the wider dtype of the two. Its backward pass copies no gradient."""
        return self.apply("add", [x, y], width=max(x.width, y.width))

    def cat(self, *tensors: Tensor) -> Tensor:
        """Record a concatenation of channels."""
        return self.apply("cat", tensors, (tensors[0].shape[0], sum(one.shape[1] for one in tensors)))

    def cast(self, x: Tensor, width: int) -> Tensor:
        """Return a copy of a tensor with another width, or the tensor itself if it has that width."""
        return x if x.width == width else self.apply("cast", [x], width=width)

    def chunk(self, x: Tensor, count: int) -> list[Tensor]:
        """Record views of equal parts of the channels; the backward pass concatenates their gradients."""
        shape = (x.shape[0], x.shape[1] // count)
        return self._views(x, shape, count)

    def token(self, x: Tensor) -> Tensor:
        """Record a view of one token."""
        return self._views(x, (1, x.shape[1]), 1)[0]

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """Record dropout with a mask as wide as the tensor, as on a CPU; on a GPU it takes one byte per element."""
        if not (self.training and rate):
            return x
        mask, out = self.apply("mask", [], x.shape, width=x.width), self._value(x.shape, x.width)
        return self._run(x.shape, "dropout", "", [x.value], [out], [mask.value])

    def drop_path(self, x: Tensor, rate: float) -> Tensor:
        """Record stochastic depth: a scaled copy; its mask has one element per image."""
        return self.apply("drop path", [x]) if self.training and rate else x

    def end_autocast(self) -> None:
        """Free autocast's copies of the weights."""
        self.steps += self._casts

    def _value(self, shape: Shape, width: int) -> Value:
        return Value(self.batch_size * shape[0] * shape[1] * width, width)

    def _count(self, name: str, macs: int, trained: int) -> int:
        """Count a layer, and return its parameters. Without a name, it is the module itself."""
        self._leaves.append(Leaf(self._path + name if name else self._path[:-1], macs, trained))
        return trained

    def _record(self, kind: str, name: str, inputs: list[Value], outputs: list[Value], *more: Any) -> None:
        operation = Operation(kind, self._path + name, inputs, outputs, *more)
        needs_grad = bool(operation.trained) or any(value.needs_grad for value in inputs)
        for value in outputs:
            value.needs_grad = needs_grad
        self.steps.append(operation)

    def _run(self, shape: Shape, kind: str, name: str, inputs: list[Value], outputs: list[Value], *more: Any) -> Tensor:
        """Record an operation and return its first output; `more` are the remaining fields of `Operation`."""
        self._record(kind, name, inputs, outputs, *more)
        return Tensor(shape, outputs[0], self.steps)

    def _views(self, x: Tensor, shape: Shape, count: int) -> list[Tensor]:
        size = self.batch_size * shape[0] * shape[1] * x.width
        views = [Value(size, x.width, x.value.storage) for _ in range(count)]
        self._record("view", "", [x.value], views)
        return [Tensor(shape, view, self.steps) for view in views]

    def _linear(self, name: str, x: Tensor, tokens: int, in_dim: int, out_dim: int, bias: bool) -> Tensor:
        cast, macs = self.cast(x, self.width), tokens * in_dim * out_dim
        out, trained = self._value((tokens, out_dim), self.width), in_dim * out_dim + out_dim * bias
        inputs = [cast.value, *self._cast_weight(self._count(name, macs, trained))]
        made = self._run((tokens, out_dim), "linear", name, inputs, [out], inputs, macs, trained)
        if not self.training:
            self.steps += inputs[1:]
        return made

    def _cast_weight(self, size: int) -> list[Value]:
        """Record autocast's copy of a weight, which in training lives until the forward pass ends."""
        if self.width == FULL:
            return []
        cast = Value(size * HALF, HALF)
        self._record("cast", "", [], [cast])
        self._casts += [cast] * self.training
        return [cast]


class Counting(Forward):
    """Counts shapes and costs only, which takes less time."""

    def __init__(self) -> None:
        super().__init__()
        self._nothing = Value(0, uses=1)

    def _value(self, _shape: Shape, _width: int) -> Value:
        return self._nothing

    def _record(self, *_fields: Any) -> None:
        pass


def _recompute(value: Value, scratch: int = 0) -> None:
    value.recomputed = scratch if value.size >= recompute_policy.RECOMPUTE_THRESHOLD else None
