"""ModelSpec -> Program: the operations of each module's forward pass, and the tensors that they make, save and free.

N tokens, C channels, r the MLP ratio. A plain block saves N C (6 + r) elements per image for the backward pass: its
input, q, k and v, the output of the attention, the sum after it, and the MLP's hidden layer before GELU; also two
statistics per norm and token, and the logarithm of the softmax's sum per head and token. The outputs of the norms and
of GELU are recomputed; small ones are saved, which adds N C (2 + r) elements.
Inference holds at most N C (3 + 2 r) elements at once: input, sum, second norm and both hidden layers. The N x N matrix
of attention is never stored.
"""

import itertools
from typing import assert_never

from t2tbuild.cost.program import Operation, Program, Value
from t2tbuild.cost.recorder import FULL, Recorder
from t2tbuild.modules.recompute_policy import images_per_chunk
from t2tbuild.spec.backbone import BaseBackbone, DenseBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import (
    ConvTokenizer,
    PatchTokenizer,
    PerformerAttention,
    Stage,
    T2TTokenizer,
    TransformerAttention,
)


def trace(model: ModelSpec, batch_size: int, width: int = FULL, *, training: bool) -> Program:
    """Return the program of a forward pass of `batch_size` images; in training, up to the loss.

    `width` is the bytes per element in matrix products: FULL for float32, HALF for bfloat16 or float16 under autocast,
    which leaves weights, the parameters of norms and the residual stream in float32.
    """
    record = Recorder(batch_size, width, training)
    backbone = model.backbone
    image = Value(batch_size * model.in_chans * model.image.tokens * FULL, needs_grad=False)
    x = _blocks(record, backbone, _embed(record, model, image), model.tokens)
    y = record.replace(x, record.norm(x, model.tokens, backbone.out_dim))
    tokens = [record.view(y, batch_size * backbone.out_dim * y.width) for _ in range(model.prefix_tokens)]
    heads = [record.linear(token, 1, backbone.out_dim, model.num_classes) for token in tokens]
    logits = _mean(record, *heads) if model.distillation_token else heads[0]
    record.free(y, *record.casts)
    if training:
        loss = record.new(model.num_classes, FULL)
        record.run([logits], loss, [loss])
    return record.program


def _mean(record: Recorder, logits: Value, logits_dist: Value) -> Value:
    """Record the mean of both heads' logits."""
    total = record.add(logits, logits_dist)
    mean = record.replace(total, record.like(total, []))
    record.free(logits, logits_dist)
    return mean


def _embed(record: Recorder, model: ModelSpec, image: Value) -> Value:
    dim, tokens = model.backbone.embed_dim, model.tokens
    match model.tokenizer:
        case T2TTokenizer() as tokenizer:
            x = _tokens_to_token(record, tokenizer, model, image)
        case ConvTokenizer() | PatchTokenizer() as tokenizer:
            x = _convolutions(record, tokenizer, model, image)
        case _:
            assert_never(model.tokenizer)
    concatenated = record.run([x], record.new(tokens * dim, x.width), params=model.prefix_tokens * dim * FULL)
    learned = model.backbone.position == "learned"
    out = record.run([concatenated], record.new(tokens * dim, FULL), params=tokens * dim * FULL * learned)
    record.free(concatenated, x)
    return out


def _tokens_to_token(record: Recorder, tokenizer: T2TTokenizer, model: ModelSpec, image: Value) -> Value:
    x, grids, widths = image, model.grids, tokenizer.widths(model.in_chans)
    for stage, grid, width in zip(tokenizer.stages, grids, widths, strict=True):
        match stage.attention:
            case None:
                new = _project(
                    record, x, grid.tokens, width, model.backbone.embed_dim, normed=False, is_image=x is image
                )
            case TransformerAttention():
                dim = 3 * (stage.token_dim or 0)
                qkv = _project(record, x, grid.tokens, width, dim, bias=False, is_image=x is image)
                new = _token_transformer(record, stage, qkv, grid.tokens)
            case PerformerAttention():
                dim = 3 * (stage.token_dim or 0)
                kqv = _project(record, x, grid.tokens, width, dim, is_image=x is image)
                new = _token_performer(record, stage, kqv, grid.tokens)
            case _:
                assert_never(stage.attention)
        if x is not image:
            record.free(x)
        x = new
    return x


def _project(
    record: Recorder,
    x: Value,
    tokens: int,
    width: int,
    dim: int,
    *,
    bias: bool = True,
    normed: bool = True,
    is_image: bool,
) -> Value:
    """Record a soft split, LayerNorm if `normed`, and a linear layer.

    Training saves the feature map and recomputes large tokens; inference unfolds the tokens of a few images at a time.
    """
    batch, size = record.batch, record.batch * tokens * width * x.width
    params = (width * dim + dim * bias + 2 * width * normed) * FULL
    chunk = images_per_chunk(size // batch)
    if not record.training and batch > chunk:
        part, out = chunk * size // batch, record.new(tokens * dim, record.width)
        cast = part * record.width // x.width if record.width != x.width else 0
        scratch = max(out.size, 2 * part - out.size * chunk // batch, part + cast)
        parts, flops = -(-batch // chunk), 2 * batch * tokens * width * dim
        inner = (4 + 2 * normed) * size + 2 * cast * parts + (parts - 1) * params + 2 * out.size
        return record.program.run(Operation([x], [out], params=params, flops=flops, scratch=scratch, inner=inner))
    unfolded = record.recomputed(Value(size, x.width))
    needs_map = unfolded.recomputed is not None and not is_image
    record.program.run(Operation([x], [unfolded], [x] if needs_map else [], scratch=size, inner=2 * size))
    if normed:
        unfolded = record.replace(unfolded, record.recomputed(record.norm(unfolded, tokens, width), size))
    return record.replace(unfolded, record.linear(unfolded, tokens, width, dim, bias=bias))


def _convolutions(record: Recorder, tokenizer: ConvTokenizer | PatchTokenizer, model: ModelSpec, image: Value) -> Value:
    x, rows = image, zip(tokenizer.windows, model.grids, tokenizer.channels_below(model.in_chans), strict=True)
    for window, grid, channels in rows:
        out_dim = window.token_dim or model.backbone.embed_dim
        new = record.linear(x, grid.tokens, channels * window.patch_size**2, out_dim)
        if x is not image:
            record.free(x)
        x = new
    return x


def _token_transformer(record: Recorder, stage: Stage, qkv: Value, tokens: int) -> Value:
    dim = stage.token_dim or 0
    q, k, v = record.split(qkv, 3)
    y = record.attention(q, k, v, tokens, dim, 1)
    attended = record.linear(y, tokens, dim, dim)
    x1 = record.add(v, attended)
    record.free(y, attended, qkv)
    n2 = record.norm(x1, tokens, dim)
    out = _mlp(record, n2, tokens, dim, dim)
    x2 = record.add(x1, out)
    record.free(n2, out, x1)
    return x2


def _token_performer(record: Recorder, stage: Stage, kqv: Value, tokens: int) -> Value:
    assert isinstance(stage.attention, PerformerAttention)
    dim, rate = stage.token_dim or 0, stage.attention.dropout
    features = int(dim * stage.attention.kernel_ratio)
    k, q, v = record.split(kqv, 3)
    y = _performer(record, k, q, v, tokens, dim, features)
    attended = record.dropout(record.linear(y, tokens, dim, dim), rate)
    x1 = record.add(v, attended)
    record.free(attended)
    n2 = record.norm(x1, tokens, dim)
    h = record.linear(n2, tokens, dim, dim)
    g = record.replace(h, record.like(h, [h]))
    out = record.dropout(record.replace(g, record.linear(g, tokens, dim, dim)), rate)
    record.free(n2)
    x2 = record.add(x1, out)
    record.free(out, x1, y, kqv)
    return x2


def _performer(record: Recorder, k: Value, q: Value, v: Value, tokens: int, dim: int, features: int) -> Value:
    """phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)), in float32."""
    phi_k, phi_q = (_random_features(record, x, tokens, features) for x in (k, q))
    wide_v = record.cast(v, FULL)
    flops = 2 * record.batch * tokens * dim * features
    kv = record.run([phi_k, wide_v], record.new(dim * features, FULL), [phi_k, wide_v], flops=flops)
    record.free_copy(wide_v, v)
    sums = record.run([phi_q, phi_k], record.new(tokens, FULL), [phi_q], flops=2 * record.batch * tokens * features)
    numerator = record.run([phi_q, kv], record.new(tokens * dim, FULL), [phi_q, kv], flops=flops)
    denominator = record.like(sums, [])
    y = record.run([numerator, denominator], record.new(tokens * dim, FULL), [numerator, denominator])
    record.free(numerator, denominator, sums, kv, phi_k, phi_q)
    narrow = record.cast(y, v.width)
    if narrow is not y:
        record.free(y)
    return narrow


def _random_features(record: Recorder, x: Value, tokens: int, features: int) -> Value:
    """exp(w x - |x|^2 / 2 - its maximum), in float32."""
    wide = record.cast(x, FULL)
    square = record.like(wide, [wide])
    norm = record.run([square], record.new(tokens, FULL))
    half = record.replace(norm, record.like(norm, []))
    record.free(square)
    flops = 2 * wide.size // FULL * features
    projected = record.run([wide], record.new(tokens * features, FULL), flops=flops)
    shifted = record.replace(projected, record.run([projected, half], Value(projected.size)))
    lowered = record.like(shifted, [])
    exponential = Value(lowered.size)
    record.run([lowered], exponential, [exponential])
    record.free(lowered, shifted, half)
    record.free_copy(wide, x)
    return exponential


def _blocks(record: Recorder, backbone: BaseBackbone, x: Value, tokens: int) -> Value:
    """Record all blocks; in the dense backbone also their concatenations, and the transitions between groups."""
    shapes = list(zip(backbone.widths, backbone.heads, backbone.mlp_dims, backbone.drop_paths, strict=True))
    if not isinstance(backbone, DenseBackbone):
        for dim, heads, hidden, drop_path in shapes:
            x = record.replace(x, _block(record, backbone, x, tokens, dim, heads, hidden, drop_path))
        return x
    growth_rate, out_dim = backbone.growth_rate, backbone.embed_dim
    starts = set(itertools.accumulate(backbone.blocks[:-1]))
    for index, (dim, heads, hidden, drop_path) in enumerate(shapes):
        if index in starts:
            h = record.linear(x, tokens, out_dim, dim)
            x = record.replace(x, record.replace(h, record.like(h, [h])))
        out = _block(record, backbone, x, tokens, dim, heads, hidden, drop_path)
        grown = record.linear(out, tokens, dim, growth_rate)
        x = record.replace(x, record.cat(x, record.cast(grown, x.width)))
        record.free(out, grown)
        out_dim = dim + growth_rate
    return x


def _block(
    record: Recorder,
    backbone: BaseBackbone,
    x: Value,
    tokens: int,
    dim: int,
    heads: int,
    hidden: int,
    drop_path: float,
) -> Value:
    n1 = record.recomputed(record.norm(x, tokens, dim))
    attended = record.drop_path(_attention(record, backbone, n1, tokens, dim, heads), drop_path)
    record.free(n1)
    x1 = record.add(x, attended)
    record.free(attended)
    n2 = record.recomputed(record.norm(x1, tokens, dim))
    ghost = backbone.ghost and backbone.ghost.mlp
    out = _ghost_mlp(record, n2, tokens, dim, hidden) if ghost else _mlp(record, n2, tokens, dim, hidden)
    out = record.drop_path(out, drop_path)
    record.free(n2)
    x2 = record.add(x1, out)
    record.free(out, x1)
    return x2


def _attention(record: Recorder, backbone: BaseBackbone, n1: Value, tokens: int, dim: int, heads: int) -> Value:
    parts: list[Value]
    if backbone.ghost and backbone.ghost.attention:
        halves = [record.linear(n1, tokens, dim, dim // 2, bias=backbone.qkv_bias) for _ in "qkv"]
        parts = []
        for half in halves:
            copy = record.like(half, [half], params=dim // 2 * FULL)
            parts.append(record.cat(half, copy))
            record.free(copy, half)
        q, k, v = parts
    else:
        parts = [record.linear(n1, tokens, dim, 3 * dim, bias=backbone.qkv_bias)]
        q, k, v = record.split(parts[0], 3)
    y = record.attention(q, k, v, tokens, dim, heads)
    attended = record.linear(y, tokens, dim, dim)
    record.free(y)
    if backbone.squeeze_excite:
        bottleneck = dim // backbone.squeeze_excite.reduction
        attended = record.replace(attended, _squeeze_excite(record, attended, dim, bottleneck))
    record.free(*parts)
    return attended


def _squeeze_excite(record: Recorder, x: Value, dim: int, bottleneck: int) -> Value:
    mean = record.run([x], record.new(dim, x.width))
    narrow = record.linear(mean, 1, dim, bottleneck, bias=False)
    rectified = Value(narrow.size, narrow.width)
    record.run([narrow], rectified, [rectified])
    wide = record.linear(rectified, 1, bottleneck, dim, bias=False)
    weights = Value(wide.size, wide.width)
    record.run([wide], weights, [weights])
    record.free(mean, narrow, rectified, wide)
    return record.replace(weights, record.run([x, weights], Value(x.size, x.width), [x, weights]))


def _mlp(record: Recorder, n2: Value, tokens: int, dim: int, hidden: int) -> Value:
    h = record.linear(n2, tokens, dim, hidden)
    g = record.replace(h, record.recomputed(record.like(h, [h])))
    return record.replace(g, record.linear(g, tokens, hidden, dim))


def _ghost_mlp(record: Recorder, n2: Value, tokens: int, dim: int, hidden: int) -> Value:
    computed = record.linear(n2, tokens, dim, dim)
    h = record.replace(computed, record.like(computed, [computed]))
    parts = [h]
    for _ in range(hidden // dim - 1):
        scaled = record.like(h, [h], params=dim * FULL)
        parts.append(record.replace(scaled, record.like(scaled, [scaled])))
    concatenated = record.cat(*parts)
    out = record.replace(concatenated, record.linear(concatenated, tokens, hidden, dim))
    record.free(*parts)
    return out
