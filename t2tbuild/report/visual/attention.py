"""Attention matrices of a model, from what enters each attention module and the module's own weights.

The modules themselves never store them: they use a fused kernel, and the Performer is linear in the number of tokens.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from timm.layers.attention import Attention as TimmAttention
from torch import Tensor, nn

from t2tbuild.errors import InputError
from t2tbuild.layout import Grid
from t2tbuild.modules.attention import Attention, split_heads
from t2tbuild.modules.ghost import GhostAttention
from t2tbuild.modules.performer import EPSILON, TokenPerformer, random_features
from t2tbuild.modules.token_transformer import TokenAttention
from t2tbuild.report.visual.loaded_model import windows_of
from t2tbuild.report.visual.receptive_field import grids_of

BACKBONE = (Attention, GhostAttention, TimmAttention)
TOKENIZER = (TokenAttention, TokenPerformer)


@dataclass(frozen=True)
class Projected:
    """Queries, keys and values [B, H, N, D] of an attention, and how the first two are compared.

    softmax(scale q k^T), or, where random features `w` [M, D] are given, phi(q) phi(k)^T normalised.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    w: Tensor | None = None

    def matrix(self, queries: Sequence[int] | None = None) -> Tensor:
        """A [B, H, Q, N], whose rows sum to one: of all queries, or of those numbered."""
        q_BHQD = self.q if queries is None else self.q[:, :, list(queries)]
        if self.w is None:
            return (self.scale * q_BHQD @ self.k.transpose(2, 3)).softmax(dim=3)
        return _of_random_features(q_BHQD[:, 0], self.k[:, 0], self.w).unsqueeze(1)


def _of_random_features(q_BQC: Tensor, k_BNC: Tensor, w_MC: Tensor) -> Tensor:
    """phi(q) phi(k)^T / (phi(q) sum_n phi(k_n)): the matrix that the Performer multiplies with and never stores.

    With the module's own epsilon below the line: rows sum to less than one where a query meets no key at all.
    """
    k_BNM, top_k_B11 = random_features(k_BNC, w_MC, (1, 2))
    q_BQM, top_q_BQ1 = random_features(q_BQC, w_MC, (2,))
    a_BQN = q_BQM @ k_BNM.transpose(1, 2)
    epsilon_BQ1 = torch.exp(math.log(EPSILON * w_MC.shape[0]) - top_k_B11 - top_q_BQ1)
    return a_BQN / (a_BQN.sum(dim=2, keepdim=True) + epsilon_BQ1)


def projected(module: nn.Module, inputs: Sequence[Any]) -> Projected:
    """What an attention module makes of its inputs, as its forward method is given them, before it compares them."""
    match module:
        case Attention():
            return _by_heads(module.qkv(inputs[0]).chunk(3, dim=2), module.num_heads)
        case GhostAttention():
            return _by_heads(_with_copies(module, inputs[0]), module.num_heads)
        case TokenAttention():
            x, soft_split, norm = [*inputs, None, None][:3]
            qkv_BNC = module.qkv(x) if soft_split is None else soft_split.project(x, module.qkv, norm)
            q_B1NC, k_B1NC, v_B1NC = qkv_BNC.unsqueeze(1).chunk(3, dim=3)
            return Projected(q_B1NC, k_B1NC, v_B1NC, module.scale)
        case TokenPerformer():
            x, soft_split = [*inputs, None][:2]
            linear, norm = module.kqv, module.norm1
            kqv_BNC = linear(norm(x)) if soft_split is None else soft_split.project(x, linear, norm)
            k_B1NC, q_B1NC, v_B1NC = kqv_BNC.unsqueeze(1).chunk(3, dim=3)
            return Projected(q_B1NC, k_B1NC, v_B1NC, 1.0, module.w)
        case TimmAttention():
            found = _by_heads(module.qkv(inputs[0]).chunk(3, dim=2), module.num_heads)
            return replace(found, q=module.q_norm(found.q), k=module.k_norm(found.k))
        case _:
            raise TypeError(f"{type(module).__name__} is no attention whose matrix is known")


def _by_heads(qkv_BNC: Sequence[Tensor], num_heads: int) -> Projected:
    q_BHND, k_BHND, v_BHND = (split_heads(x_BNC, num_heads) for x_BNC in qkv_BNC)
    return Projected(q_BHND, k_BHND, v_BHND, q_BHND.shape[3] ** -0.5)


def _with_copies(module: GhostAttention, x_BNC: Tensor) -> list[Tensor]:
    """Queries, keys and values [B, N, dim], each half computed and half copied."""
    linears = (module.q, module.k, module.v)
    copies = (module.cheap_operation_q, module.cheap_operation_k, module.cheap_operation_v)
    computed = [linear(x_BNC) for linear in linears]
    return [torch.cat((half, copied(half)), dim=2) for half, copied in zip(computed, copies, strict=True)]


def rollout(attentions: Iterable[Tensor]) -> Tensor:
    """Attention rolled out: what each last token is made of, by layers [H, N, N], the first layer first -> [N, N].

    The product over the layers, the last leftmost, of 0.5 mean_h(A) + 0.5 I, rows normalised: half of a token goes
    around each attention by the skip connection (Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL
    2020, Section 3). It follows attention alone: what MLPs do, and in a dense backbone the concatenated channels, is
    not in it. Raises ValueError without a layer.

        >>> rollout([torch.eye(3).expand(2, 3, 3)] * 4).equal(torch.eye(3))
        True
    """
    rolled_NN: Tensor | None = None
    for a_HNN in attentions:
        mean_NN = a_HNN.mean(dim=0)
        with_skip_NN = (mean_NN + torch.eye(len(mean_NN), dtype=mean_NN.dtype, device=mean_NN.device)) / 2
        with_skip_NN = with_skip_NN / with_skip_NN.sum(dim=1, keepdim=True)
        rolled_NN = with_skip_NN if rolled_NN is None else with_skip_NN @ rolled_NN
    if rolled_NN is None:
        raise ValueError("there is no attention to roll out")
    return rolled_NN


@dataclass(frozen=True)
class BlockAttention:
    """One block's attention: `reader` [H, N], that of the reading token head by head, and `mean` [N, N] over heads."""

    name: str
    reader: Tensor
    mean: Tensor


@dataclass(frozen=True)
class StageAttention:
    """One token attention: how much a chosen token attends to each of its grid, [rows, columns]."""

    stage: int
    grid: Grid
    row: int
    column: int
    weights: Tensor
    features: int | None
    """Random features of a Performer; None of softmax attention."""


@dataclass(frozen=True)
class AttentionMaps:
    """The attention of a model on one image. The first `prefix` of a block's tokens are no places of `grid`."""

    blocks: list[BlockAttention]
    prefix: int
    grid: Grid
    has_class_token: bool
    stages: list[StageAttention] = field(default_factory=list)

    def on_grid(self, weights_N: Tensor) -> Tensor:
        """[N] -> [rows, columns], over what even attention would give: the class token's own share is left out."""
        return weights_N[self.prefix :].reshape(self.grid) * len(weights_N)

    def on_prefix(self, weights_N: Tensor) -> float:
        """The share that stays on the class token and others that are no places."""
        return weights_N[: self.prefix].sum().item()

    def reader(self, matrix_NN: Tensor) -> Tensor:
        """[N, N] -> [N]: the class token's row; without one, the mean of all rows."""
        return matrix_NN[0] if self.has_class_token else matrix_NN.mean(dim=0)

    @property
    def rolled(self) -> Tensor:
        """[N]: attention rolled out from the reading token to what the backbone was given."""
        return self.reader(rollout(block.mean.unsqueeze(0) for block in self.blocks))


def has_attention(model: nn.Module) -> bool:
    """Whether a model has attention whose matrices are known here."""
    return any(isinstance(part, BACKBONE) for part in model.modules()) and bool(windows_of(model))


Place = Callable[[Grid], tuple[int, int]]
"""The row and column of the chosen token on a grid over the image."""


@torch.no_grad()
def attention_maps(model: Any, image_1CHW: Tensor, place: Place) -> AttentionMaps:
    """The attention of every block and token attention on one image; `place` says which token of a grid is chosen.

    Raises InputError where the model has no attention of a known kind, or its tokens are no grid.
    """
    model.eval()
    named = [(name, part) for name, part in model.named_modules() if isinstance(part, BACKBONE)]
    below = [(name, part) for name, part in model.named_modules() if isinstance(part, TOKENIZER)]
    if not named:
        message = f"{type(model).__name__} has no attention whose matrix is known here"
        raise InputError(f"--what attention: {message}; ours, and those of timm's vision transformers, are")
    windows = windows_of(model)
    if not windows:
        raise InputError(f"--what attention: the tokens of {type(model).__name__} are no grid of patches")
    grids = grids_of(Grid(*image_1CHW.shape[2:]), windows)
    grid, prefix = grids[-1], int(getattr(model, "num_prefix_tokens", 0))
    has_class_token = getattr(model, "cls_token", None) is not None
    blocks: list[BlockAttention] = []
    stages: list[StageAttention] = []

    def of_block(name: str, found: Projected) -> None:
        a_HNN = found.matrix()[0]
        reader_HN = a_HNN[:, 0] if has_class_token else a_HNN.mean(dim=1)
        blocks.append(BlockAttention(_block_name(name), reader_HN.clone(), a_HNN.mean(dim=0)))

    def of_stage(_name: str, found: Projected) -> None:
        of_this = grids[len(stages)]
        row, column = place(of_this)
        weights_N = found.matrix([row * of_this.width + column])[0, 0, 0]
        features = None if found.w is None else len(found.w)
        weights = weights_N.reshape(of_this) * of_this.tokens
        stages.append(StageAttention(len(stages) + 1, of_this, row, column, weights, features))

    with looked_into(named, of_block), looked_into(below, of_stage):
        model(image_1CHW)
    if any(len(block.mean) != prefix + grid.tokens for block in blocks):
        raise InputError(f"--what attention: the tokens of {type(model).__name__} are no grid of {grid} in every block")
    return AttentionMaps(blocks, prefix, grid, has_class_token, stages)


def _block_name(name: str) -> str:
    """blocks.13.attn is block 13."""
    return re.sub(r"^blocks\.(\d+)\.attn$", r"block \1", name)


@contextmanager
def looked_into(modules: Sequence[tuple[str, nn.Module]], message: Callable[[str, Projected], None]) -> Iterator[None]:
    """Within this context `told` is called with what each attention module compares, as it runs."""

    def hook(name: str) -> Any:
        return lambda module, inputs: message(name, projected(module, inputs))

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
