"""Attention matrices of a model, recomputed from the input and the weights of each attention module.

The modules do not store them: they use a fused kernel, and the Performer never forms the matrix.
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
from t2tbuild.report.visual.receptive_field import token_grids

BACKBONE = (Attention, GhostAttention, TimmAttention)
TOKENIZER = (TokenAttention, TokenPerformer)


@dataclass(frozen=True)
class ProjectedQKV:
    """Queries, keys and values [B, H, N, D] of an attention.

    The attention matrix is softmax(scale q k^T) or, with random features `w` [M, D], the normalised phi(q) phi(k)^T.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    w: Tensor | None = None

    def matrix(self, queries: Sequence[int] | None = None) -> Tensor:
        """Return the attention matrix [B, H, Q, N] of all queries, or of those given by index. Rows sum to one."""
        q_BHQD = self.q if queries is None else self.q[:, :, list(queries)]
        if self.w is None:
            return (self.scale * q_BHQD @ self.k.transpose(2, 3)).softmax(dim=3)
        return _performer_matrix(q_BHQD[:, 0], self.k[:, 0], self.w).unsqueeze(1)


def _performer_matrix(q_BQC: Tensor, k_BNC: Tensor, w_MC: Tensor) -> Tensor:
    """Return phi(q) phi(k)^T / (phi(q) sum_n phi(k_n)), the implicit attention matrix of the Performer.

    The denominator includes the module's epsilon, so a row sums to less than one if its query matches no key.
    """
    k_BNM, top_k_B11 = random_features(k_BNC, w_MC, (1, 2))
    q_BQM, top_q_BQ1 = random_features(q_BQC, w_MC, (2,))
    a_BQN = q_BQM @ k_BNM.transpose(1, 2)
    epsilon_BQ1 = torch.exp(math.log(EPSILON * w_MC.shape[0]) - top_k_B11 - top_q_BQ1)
    return a_BQN / (a_BQN.sum(dim=2, keepdim=True) + epsilon_BQ1)


def project_qkv(module: nn.Module, inputs: Sequence[Any]) -> ProjectedQKV:
    """Project the inputs of an attention module's forward method to queries, keys and values."""
    match module:
        case Attention():
            return _split_into_heads(module.qkv(inputs[0]).chunk(3, dim=2), module.num_heads)
        case GhostAttention():
            return _split_into_heads(_ghost_qkv(module, inputs[0]), module.num_heads)
        case TokenAttention():
            x, soft_split, norm = [*inputs, None, None][:3]
            qkv_BNC = module.qkv(x) if soft_split is None else soft_split.project(x, module.qkv, norm)
            q_B1NC, k_B1NC, v_B1NC = qkv_BNC.unsqueeze(1).chunk(3, dim=3)
            return ProjectedQKV(q_B1NC, k_B1NC, v_B1NC, module.scale)
        case TokenPerformer():
            x, soft_split = [*inputs, None][:2]
            linear, norm = module.kqv, module.norm1
            kqv_BNC = linear(norm(x)) if soft_split is None else soft_split.project(x, linear, norm)
            k_B1NC, q_B1NC, v_B1NC = kqv_BNC.unsqueeze(1).chunk(3, dim=3)
            return ProjectedQKV(q_B1NC, k_B1NC, v_B1NC, 1.0, module.w)
        case TimmAttention():
            qkv = _split_into_heads(module.qkv(inputs[0]).chunk(3, dim=2), module.num_heads)
            return replace(qkv, q=module.q_norm(qkv.q), k=module.k_norm(qkv.k))
        case _:
            raise TypeError(f"{type(module).__name__} is not an attention module whose matrix is known")


def _split_into_heads(qkv_BNC: Sequence[Tensor], num_heads: int) -> ProjectedQKV:
    q_BHND, k_BHND, v_BHND = (split_heads(x_BNC, num_heads) for x_BNC in qkv_BNC)
    return ProjectedQKV(q_BHND, k_BHND, v_BHND, q_BHND.shape[3] ** -0.5)


def _ghost_qkv(module: GhostAttention, x_BNC: Tensor) -> list[Tensor]:
    """Return queries, keys and values [B, N, dim] of a ghost attention: one half projected, one half cheap copies."""
    linears = (module.q, module.k, module.v)
    copies = (module.cheap_operation_q, module.cheap_operation_k, module.cheap_operation_v)
    computed = [linear(x_BNC) for linear in linears]
    return [torch.cat((half, copied(half)), dim=2) for half, copied in zip(computed, copies, strict=True)]


def rollout(attentions: Iterable[Tensor]) -> Tensor:
    """Return the attention rollout [N, N] of layers [H, N, N], given from first to last.

    The rollout is the product over layers, the last leftmost, of 0.5 mean_h(A) + 0.5 I with normalised rows; the
    identity stands for the skip connection (Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020,
    Section 3). It ignores MLPs and, in a dense backbone, concatenated channels. Raises ValueError if there is no layer.

        >>> rollout([torch.eye(3).expand(2, 3, 3)] * 4).equal(torch.eye(3))
        True
    """
    rollout_NN: Tensor | None = None
    for a_HNN in attentions:
        mean_NN = a_HNN.mean(dim=0)
        with_skip_NN = (mean_NN + torch.eye(len(mean_NN), dtype=mean_NN.dtype, device=mean_NN.device)) / 2
        with_skip_NN = with_skip_NN / with_skip_NN.sum(dim=1, keepdim=True)
        rollout_NN = with_skip_NN if rollout_NN is None else with_skip_NN @ rollout_NN
    if rollout_NN is None:
        raise ValueError("no attention matrices were given")
    return rollout_NN


@dataclass(frozen=True)
class BlockAttention:
    """A block's attention: `cls_attention` [H, N] of the class token for each head, and `mean` [N, N] over heads.

    Without a class token, `cls_attention` is the mean over all tokens.
    """

    name: str
    cls_attention: Tensor
    mean: Tensor


@dataclass(frozen=True)
class StageAttention:
    """Attention weights [rows, columns] of one token to all tokens of its grid, in a token attention."""

    stage: int
    grid: Grid
    row: int
    column: int
    weights: Tensor
    features: int | None
    """The number of random features of a Performer; None for softmax attention."""


@dataclass(frozen=True)
class AttentionMaps:
    """The attention of a model on one image. The first `prefix` tokens of a block are not positions of `grid`."""

    blocks: list[BlockAttention]
    prefix: int
    grid: Grid
    has_class_token: bool
    stages: list[StageAttention] = field(default_factory=list)

    def on_grid(self, weights_N: Tensor) -> Tensor:
        """Return attention weights relative to uniform attention, without the prefix tokens: [N] -> [rows, columns]."""
        return weights_N[self.prefix :].reshape(self.grid) * len(weights_N)

    def prefix_share(self, weights_N: Tensor) -> float:
        """Return the share of attention on the prefix tokens."""
        return weights_N[: self.prefix].sum().item()

    def cls_attention(self, matrix_NN: Tensor) -> Tensor:
        """Return the class token's row; without a class token, the mean of all rows: [N, N] -> [N]."""
        return matrix_NN[0] if self.has_class_token else matrix_NN.mean(dim=0)

    @property
    def rollout_of_cls(self) -> Tensor:
        """The rollout [N] of the class token to the input tokens of the backbone."""
        return self.cls_attention(rollout(block.mean.unsqueeze(0) for block in self.blocks))


def has_attention(model: nn.Module) -> bool:
    """Return whether a model has attention modules whose matrices are known here."""
    return any(isinstance(part, BACKBONE) for part in model.modules()) and bool(windows_of(model))


TokenChoice = Callable[[Grid], tuple[int, int]]
"""A function that returns the row and column of the chosen token on a grid over the image."""


@torch.no_grad()
def attention_maps(model: Any, image_1CHW: Tensor, choose_token: TokenChoice) -> AttentionMaps:
    """Return the attention of every block and token attention on one image.

    `choose_token` selects the token of a grid whose token attention is recorded. Raises InputError if the model has no
    known attention, or if its tokens do not form a grid.
    """
    model.eval()
    attentions = [(name, part) for name, part in model.named_modules() if isinstance(part, BACKBONE)]
    token_attentions = [(name, part) for name, part in model.named_modules() if isinstance(part, TOKENIZER)]
    if not attentions:
        message = f"{type(model).__name__} has no attention whose matrix is known here"
        raise InputError(f"--what attention: {message}; name one of our models or a vision transformer of timm")
    windows = windows_of(model)
    if not windows:
        raise InputError(f"--what attention: the tokens of {type(model).__name__} do not form a grid of patches")
    grids = token_grids(Grid(*image_1CHW.shape[2:]), windows)
    grid, prefix = grids[-1], int(getattr(model, "num_prefix_tokens", 0))
    has_class_token = getattr(model, "cls_token", None) is not None
    blocks: list[BlockAttention] = []
    stages: list[StageAttention] = []

    def record_block(name: str, qkv: ProjectedQKV) -> None:
        a_HNN = qkv.matrix()[0]
        cls_HN = a_HNN[:, 0] if has_class_token else a_HNN.mean(dim=1)
        blocks.append(BlockAttention(_block_name(name), cls_HN.clone(), a_HNN.mean(dim=0)))

    def record_stage(_name: str, qkv: ProjectedQKV) -> None:
        stage_grid = grids[len(stages)]
        row, column = choose_token(stage_grid)
        weights_N = qkv.matrix([row * stage_grid.width + column])[0, 0, 0]
        features = None if qkv.w is None else len(qkv.w)
        weights = weights_N.reshape(stage_grid) * stage_grid.tokens
        stages.append(StageAttention(len(stages) + 1, stage_grid, row, column, weights, features))

    with attention_hooks(attentions, record_block), attention_hooks(token_attentions, record_stage):
        model(image_1CHW)
    if any(len(block.mean) != prefix + grid.tokens for block in blocks):
        raise InputError(
            f"--what attention: {type(model).__name__} has blocks whose tokens do not form a grid of {grid}"
        )
    return AttentionMaps(blocks, prefix, grid, has_class_token, stages)


def _block_name(name: str) -> str:
    """Return a short name of a block: blocks.13.attn is block 13."""
    return re.sub(r"^blocks\.(\d+)\.attn$", r"block \1", name)


@contextmanager
def attention_hooks(
    modules: Sequence[tuple[str, nn.Module]], callback: Callable[[str, ProjectedQKV], None]
) -> Iterator[None]:
    """Call `callback` with the name and the projected inputs of each attention module that runs in this context."""

    def hook(name: str) -> Any:
        return lambda module, inputs: callback(name, project_qkv(module, inputs))

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
