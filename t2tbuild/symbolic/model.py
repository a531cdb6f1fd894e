"""The forward pass of a model: its parts with their layout and costs, and the operations of a batch."""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from t2tbuild.layout import Grid, Part
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import Tokenizer
from t2tbuild.symbolic.backbones import BACKBONES
from t2tbuild.symbolic.forward import FULL, Counting, Forward, Operation, Shape, Split, Tensor
from t2tbuild.symbolic.leaf import Counted, PartCost
from t2tbuild.symbolic.row import BoxKind, Row, Step, entry
from t2tbuild.symbolic.tokenizers import TOKENIZERS


class ModelPart(NamedTuple):
    """A row of a model, the same with the shape of its output, its cost, and the costs of each of its calls."""

    row: Row
    part: Part
    cost: PartCost
    counts: list[Counted]


cached = functools.lru_cache(maxsize=2**14)  # the candidates of a search share most of their shapes


def model_parts(model: ModelSpec) -> list[ModelPart]:
    """Return the parts of a model in the order of the forward pass. Raises CostError without a symbolic forward."""
    below, x = _tokenizer_parts(model.tokenizer, model.image, model.in_chans, model.backbone.embed_dim)
    inner, x = _parts(_steps(model), x)
    return [*below, *inner, *_head_parts(x[1], model.num_classes, model.distillation_token)]


@cached
def _tokenizer_parts(tokenizer: Tokenizer, image: Grid, in_chans: int, embed_dim: int) -> tuple[list[ModelPart], Any]:
    return _parts(entry(TOKENIZERS, tokenizer)(tokenizer, image, in_chans, embed_dim), (image.tokens, in_chans))


def _parts(steps: Iterable[Step], x: Any) -> tuple[list[ModelPart], Any]:
    """Return the parts of a sequence of rows and their calls, and its output for the input `x`; see `_count`."""
    parts: list[ModelPart] = []
    row, counts, call, below = None, list[Counted](), None, None
    for step in steps:
        if isinstance(step, Row):
            if row is not None:
                parts.append(_part(row, x, counts))
            row, counts, call = step, [], None
        elif step == call and x == below:  # as the one before
            counts.append(counts[-1])
        else:
            call, below = step, x
            count, x = _count(step[0], x, step[1:])
            counts.append(count)
    return [*parts, _part(row, x, counts)] if row is not None else parts, x


def _part(row: Row, out: Shape | Split, counts: list[Counted]) -> ModelPart:
    shape = out.shape if isinstance(out, Split) else out
    part = Part(row.name, row.modules, row.grid, *shape)
    return ModelPart(row, part, PartCost.of(part, counts), counts)


@cached
def _count(function: Callable[..., Tensor | Split], x: Any, args: tuple[Any, ...]) -> tuple[Counted, Any]:
    """Return the costs of a call and its output. Inputs and outputs are shapes, or splits without a source."""
    f = Counting()
    out = function(f, x._replace(source=f.image(1, 1)) if isinstance(x, Split) else f.image(*x), *args)
    return Counted.of(*f.leaves), out._replace(source=None) if isinstance(out, Split) else out.shape  # type: ignore[arg-type]


def layout(model: ModelSpec) -> tuple[Part, ...]:
    """Return the rows of a model's cost table, with the modules of each in the built model."""
    return tuple(one.part for one in model_parts(model))


def record(model: ModelSpec, batch_size: int, width: int = FULL, *, training: bool) -> Forward:
    """Record the forward pass of `batch_size` images; in training, up to the loss. See `Forward` for `width`."""
    f = Forward(batch_size, width, training=training)
    logits = _logits(f, model)
    f.end_autocast()
    loss = f.apply("loss", [logits], width=FULL, saves_output=True) if training else None
    f.steps = [*f.steps]  # the logits and the loss stay alive
    del loss
    return f


def block_operations(model: ModelSpec) -> list[Operation]:
    """Return the operations of the first block, for one image."""
    f, steps = Forward(), entry(BACKBONES, model.backbone)(model.backbone)
    function, *args = next(step for step in steps if not isinstance(step, Row))
    function(f, f.image(model.tokens, model.backbone.embed_dim), *args)
    return [step for step in f.steps if isinstance(step, Operation)]


def _logits(f: Forward, model: ModelSpec) -> Tensor:
    tokenizer, x = model.tokenizer, f.image(model.image.tokens, model.in_chans)
    tokenize = entry(TOKENIZERS, tokenizer)(tokenizer, model.image, model.in_chans, model.backbone.embed_dim)
    for step in itertools.chain(tokenize, _steps(model)):
        if not isinstance(step, Row):
            x = step[0](f, x, *step[1:])
    tokens = [f.token(x) for _ in range(model.prefix_tokens)]
    logits = [head(f, token, model.num_classes) for token in tokens]
    return f.apply("halve", [f.add(*logits)]) if model.distillation_token else logits[0]


def _steps(model: ModelSpec) -> list[Step]:
    """Return the rows and calls after the tokenizer, up to the heads."""
    backbone = model.backbone
    below = _embed_steps(model.distillation_token, backbone.position)
    return [*below, *entry(BACKBONES, backbone)(backbone), *_norm_steps(backbone.out_dim)]


@cached
def _embed_steps(distilled: bool, position: str) -> tuple[Step, ...]:
    name = "class, distillation, position" if distilled else "class token, position"
    modules = ("cls_token", "dist_token", "pos_embed") if distilled else ("cls_token", "pos_embed")
    number = "2 tokens" if distilled else "1 token"
    row = Row(name, modules, BoxKind.TOKENS, f"{number} prepended, {position} positions added")
    return row, (embed, 1 + distilled, position == "learned")


@cached
def _norm_steps(out_dim: int) -> tuple[Step, ...]:
    return Row("norm", ("norm",), BoxKind.NORM, f"LayerNorm of {out_dim:,} channels"), (norm,)


@cached
def _head_parts(dim: int, num_classes: int, distilled: bool) -> list[ModelPart]:
    count, out = _count(head, (1, dim), (num_classes,))
    classes = f"{dim:,} → {num_classes:,} classes, from the"
    rows = [Row("head", ("head",), BoxKind.HEAD, f"{classes} class token")]
    if distilled:
        rows.append(Row("distillation head", ("head_dist",), BoxKind.HEAD, f"{classes} distillation token"))
    return [_part(row, out, [count]) for row in rows]


def embed(f: Forward, x: Tensor, prefix_tokens: int, learned: bool) -> Tensor:
    """Record the prefix tokens before x, and the position embedding added in float32."""
    tokens, dim = x.shape[0] + prefix_tokens, x.shape[1]
    trained = sum(f.parameter(name, dim) for name in ("cls_token", "dist_token")[:prefix_tokens])
    concatenated = f.apply("cat", [x], (tokens, dim), trained=trained)
    table = f.parameter("pos_embed", tokens * dim, trained=learned)
    return f.apply("add positions", [concatenated], width=FULL, trained=table)


def norm(f: Forward, x: Tensor) -> Tensor:
    """Record the norm after the last block."""
    return f.norm("", x)


def head(f: Forward, token: Tensor, num_classes: int) -> Tensor:
    """Record the head, a linear layer on one token."""
    return f.linear("", token, num_classes)
