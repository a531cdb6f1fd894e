"""Token attentions of the t2t tokenizer: Split of shape (N, C) -> Tensor (N, token_dim)."""

from collections.abc import Callable
from typing import Any

from t2tbuild.spec.base import Node
from t2tbuild.spec.tokenizer import PerformerAttention, TransformerAttention
from t2tbuild.symbolic.block import mlp
from t2tbuild.symbolic.forward import FULL, Forward, Split, Tensor


def transformer(f: Forward, tokens: Split, _node: TransformerAttention, dim: int) -> Tensor:
    """Record the forward pass of `TokenTransformer`."""
    x = f.module("attn", _attend, f.project("attn.qkv", tokens, 3 * dim, norm="norm1", bias=False), dim)
    return f.add(x, f.module("mlp", mlp, f.norm("norm2", x), dim))


def _attend(f: Forward, qkv: Tensor, dim: int) -> Tensor:
    q, k, v = f.chunk(qkv, 3)
    y = f.attention(q, k, v, 1)
    return f.add(v, f.linear("proj", y, dim))


def performer(f: Forward, tokens: Split, node: PerformerAttention, dim: int) -> Tensor:
    """Record the forward pass of `TokenPerformer`."""
    features = node.features(dim)
    kqv = f.project("kqv", tokens, 3 * dim, norm="norm1")
    k, q, v = f.chunk(kqv, 3)
    f.parameter("w", features * dim, trained=False)
    y = f.cast(_performer_attention(f, k, q, v, features), v.width)
    x = f.add(v, f.dropout(f.linear("proj", y, dim), node.dropout))
    return f.add(x, f.module("mlp", _performer_mlp, f.norm("norm2", x), dim, node.dropout))


def _performer_mlp(f: Forward, x: Tensor, dim: int, dropout: float) -> Tensor:
    return f.dropout(f.linear("2", f.gelu(f.linear("0", x, dim)), dim), dropout)


def _performer_attention(f: Forward, k: Tensor, q: Tensor, v: Tensor, features: int) -> Tensor:
    """Record phi(q) (phi(k)^T v) / (phi(q) sum_n phi(k_n)), in float32: 2 N C M + N M MACs besides those of phi."""
    tokens, dim = v.shape
    phi_k, phi_q = _random_features(f, k, features), _random_features(f, q, features)
    macs = tokens * dim * features
    kv = f.apply("products", [phi_k, f.cast(v, FULL)], (features, dim), saves=2, macs=macs)
    sums = f.apply("products", [phi_q, phi_k], (tokens, 1), saves=1, macs=tokens * features)
    numerator = f.apply("products", [phi_q, kv], (tokens, dim), saves=2, macs=macs)
    denominator = f.apply("add epsilon", [sums])
    return f.apply("divide", [numerator, denominator], saves=2)


def _random_features(f: Forward, x: Tensor, features: int) -> Tensor:
    """Record exp(w x - |x|^2 / 2 - its maximum), in float32: N C M MACs."""
    tokens, dim = x.shape
    wide = f.cast(x, FULL)
    half_square = f.apply("halve", [f.apply("sum", [f.apply("square", [wide], saves=1)], (tokens, 1))])
    projected = f.apply("products", [wide], (tokens, features), macs=tokens * dim * features)
    exponent = f.apply("subtract", [projected, half_square])
    del projected
    lowered = f.apply("subtract", [exponent])
    return f.apply("exp", [lowered], saves_output=True)


TOKEN_ATTENTIONS: dict[type[Node], Callable[[Forward, Split, Any, int], Tensor]] = {
    PerformerAttention: performer,
    TransformerAttention: transformer,
}
"""The symbolic forward of each token attention: (forward, tokens, node, token_dim)."""
