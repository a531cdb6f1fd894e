"""The published formulas, implemented literally on the same weights; the tests compare our modules with them.

Attention stores its N x N matrix. Soft splits and their normed copies are computed for the whole batch. The Performer
repeats norms and sums to the shape of the tensors they divide. Ghost features are depthwise convolutions between two
transposes. Formulas: Yuan et al., ICCV 2021; Choromanski et al., ICLR 2021; Han et al., CVPR 2020.
"""

import copy
import math
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.modules.attention import Attention
from t2tbuild.modules.block import Block
from t2tbuild.modules.dense import DenseBlock
from t2tbuild.modules.ghost import ChannelScale, GhostAttention
from t2tbuild.modules.mlp import Mlp
from t2tbuild.modules.performer import EPSILON, TokenPerformer
from t2tbuild.modules.token_transformer import TokenAttention, TokenTransformer
from t2tbuild.modules.tokenizers import T2TTokenizer


def reference_module(model: nn.Module) -> nn.Module:
    """Return a copy of a model with the same weights, whose modules compute the published formulas."""
    reference = copy.deepcopy(model)
    for module in reference.modules():
        if type(module) in FORWARDS:
            module.forward = MethodType(FORWARDS[type(module)], module)  # type: ignore[method-assign]
    return reference


def softmax_attention(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, scale: float) -> Tensor:
    """Compute softmax(scale Q K^T) V with the full attention matrix."""
    weights_BHNN = (q_BHND @ k_BHND.transpose(-2, -1) * scale).softmax(dim=-1)
    return weights_BHNN @ v_BHND


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    batch, tokens, channels = x_BNC.shape
    return x_BNC.reshape(batch, tokens, heads, channels // heads).permute(0, 2, 1, 3)


def attend(module: Any, q_BNC: Tensor, k_BNC: Tensor, v_BNC: Tensor) -> Tensor:
    heads = module.num_heads
    scale = (q_BNC.shape[2] // heads) ** -0.5
    y_BHND = softmax_attention(*(split_heads(x_BNC, heads) for x_BNC in (q_BNC, k_BNC, v_BNC)), scale)
    merged: Tensor = module.proj(y_BHND.transpose(1, 2).reshape(q_BNC.shape))
    for name in module.followers:
        merged = getattr(module, name)(merged)
    return merged


def attention(self: Any, x_BNC: Tensor) -> Tensor:
    return attend(self, *self.qkv(x_BNC).chunk(3, dim=2))


def ghost_attention(self: Any, x_BNC: Tensor) -> Tensor:
    halves = [self.q(x_BNC), self.k(x_BNC), self.v(x_BNC)]
    copies = [self.cheap_operation_q(halves[0]), self.cheap_operation_k(halves[1]), self.cheap_operation_v(halves[2])]
    return attend(self, *(torch.cat(pair, dim=2) for pair in zip(halves, copies, strict=True)))


def channel_scale(self: Any, x_BNC: Tensor) -> Tensor:
    weight_C11 = self.weight.reshape(-1, 1, 1)
    return F.conv1d(x_BNC.transpose(1, 2), weight_C11, groups=len(weight_C11)).transpose(1, 2)


def token_attention(self: Any, x_BNC: Tensor) -> Tensor:
    q_B1NC, k_B1NC, v_B1NC = (split_heads(part_BNC, 1) for part_BNC in self.qkv(x_BNC).chunk(3, dim=2))
    y_BNC = softmax_attention(q_B1NC, k_B1NC, v_B1NC, self.scale).transpose(1, 2).flatten(2)
    attended: Tensor = v_B1NC.squeeze(1) + self.proj(y_BNC)
    return attended


def token_transformer(self: Any, x_BNC: Tensor) -> Tensor:
    x_BNC = self.attn(self.norm1(x_BNC))
    out: Tensor = x_BNC + self.mlp(self.norm2(x_BNC))
    return out


def token_performer(self: Any, x_BNC: Tensor) -> Tensor:
    k_BNC, q_BNC, v_BNC = self.kqv(self.norm1(x_BNC)).chunk(3, dim=2)
    features = len(self.w)

    def phi(part_BNC: Tensor) -> Tensor:
        square_BNM = part_BNC.float().square().sum(dim=2, keepdim=True).repeat(1, 1, features) / 2
        return torch.exp(part_BNC.float() @ self.w.T - square_BNM) / math.sqrt(features)

    with torch.autocast(x_BNC.device.type, enabled=False):
        phi_k_BNM, phi_q_BNM = phi(k_BNC), phi(q_BNC)
        total_BN1 = (phi_q_BNM * phi_k_BNM.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True)
        kv_BCM = v_BNC.float().transpose(1, 2) @ phi_k_BNM
        y_BNC = phi_q_BNM @ kv_BCM.transpose(1, 2) / (total_BN1.repeat(1, 1, self.dim) + EPSILON)
    x_BNC = v_BNC + self.dropout(self.proj(y_BNC.to(v_BNC.dtype)))
    out: Tensor = x_BNC + self.mlp(self.norm2(x_BNC))
    return out


def tokenizer(self: Any, image_BCHW: Tensor) -> Tensor:
    x_BCHW, last = image_BCHW, len(self.windows) - 1
    for index in range(last):
        tokens_BNC = self.get_submodule(f"attention{index + 1}")(self.get_submodule(f"soft_split{index}")(x_BCHW))
        rows, columns = grid(x_BCHW, self.windows[index])
        x_BCHW = tokens_BNC.transpose(1, 2).reshape(len(tokens_BNC), -1, rows, columns)
    projected: Tensor = self.project(self.get_submodule(f"soft_split{last}")(x_BCHW))
    return projected


def mlp(self: Any, x_BNC: Tensor) -> Tensor:
    out: Tensor = self.fc2(F.gelu(self.fc1(x_BNC)))
    return out


def block(self: Any, x_BNC: Tensor) -> Tensor:
    scale1, scale2 = (getattr(self, name, nn.Identity()) for name in ("ls1", "ls2"))
    x_BNC = x_BNC + self.drop_path(scale1(self.attn(self.norm1(x_BNC))))
    out: Tensor = x_BNC + self.drop_path(scale2(self.mlp(self.norm2(x_BNC))))
    return out


def dense_block(self: Any, x_BNC: Tensor) -> Tensor:
    return torch.cat((x_BNC, self.dense_linear(block(self, x_BNC))), dim=2)


def grid(x_BCHW: Tensor, window: tuple[int, int, int]) -> tuple[int, int]:
    side, stride, padding = window
    rows, columns = ((length + 2 * padding - side) // stride + 1 for length in x_BCHW.shape[2:])
    return rows, columns


FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {
    Attention: attention,
    Block: block,
    DenseBlock: dense_block,
    Mlp: mlp,
    GhostAttention: ghost_attention,
    ChannelScale: channel_scale,
    TokenAttention: token_attention,
    TokenTransformer: token_transformer,
    TokenPerformer: token_performer,
    T2TTokenizer: tokenizer,
}
