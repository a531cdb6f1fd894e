"""The options that the paper adopts from CNNs, compared with their formulas."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from t2tbuild import build_model, load_spec
from t2tbuild.cost.fit import Axis, fit
from t2tbuild.modules.attention import Attention
from t2tbuild.modules.block import Block
from t2tbuild.modules.dense import DenseBlock, Transition
from t2tbuild.modules.ghost import ChannelScale, GhostAttention, GhostMlp
from t2tbuild.modules.layer_scale import LayerScale
from t2tbuild.modules.mlp import Mlp
from t2tbuild.modules.position import resize_position, sinusoid_table
from t2tbuild.modules.squeeze_excite import SqueezeExcite
from t2tbuild.modules.tokenizers import ConvTokenizer
from t2tbuild.spec.budget import Budget


def test_squeeze_excite_by_its_formula() -> None:
    squeeze = SqueezeExcite(dim=8, reduction=4)
    x = torch.randn(2, 5, 8)
    first, second = squeeze.fc[0].weight, squeeze.fc[2].weight
    weights = torch.sigmoid(torch.relu(x.mean(dim=1) @ first.T) @ second.T)
    torch.testing.assert_close(squeeze(x), x * weights[:, None])
    assert first.shape == (2, 8)


def test_squeeze_excite_follows_the_projection() -> None:
    plain = Attention(dim=8, num_heads=2, qkv_bias=True)
    squeezed = Attention(dim=8, num_heads=2, qkv_bias=True)
    squeezed.follow("se_layer", SqueezeExcite(dim=8, reduction=2))
    squeezed.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(squeezed(x), squeezed.se_layer(plain(x)))


def test_ghost_scale_is_a_depthwise_convolution_of_kernel_one() -> None:
    scale = ChannelScale(6)
    convolution = nn.Conv1d(6, 6, 1, groups=6, bias=False)
    convolution.load_state_dict(scale.state_dict())
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(scale(x), convolution(x.transpose(1, 2)).transpose(1, 2))
    assert -1 <= ChannelScale(10_000).weight.min() < -0.9 < 0.9 < ChannelScale(10_000).weight.max() <= 1


def test_ghost_attention_by_the_textbook() -> None:
    """The second half of the heads reads scaled copies of the first half's channels."""
    ghost = GhostAttention(dim=8, num_heads=2, qkv_bias=False)
    x = torch.randn(2, 5, 8)
    q, k, v = ghost.q(x), ghost.k(x), ghost.v(x)

    def head(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(1, 2) / math.sqrt(4), dim=-1) @ v

    copies = [ghost.cheap_operation_q(q), ghost.cheap_operation_k(k), ghost.cheap_operation_v(v)]
    torch.testing.assert_close(ghost(x), ghost.proj(torch.cat((head(q, k, v), head(*copies)), dim=2)))


@pytest.mark.parametrize("ratio", [1, 2, 3, 5])
def test_ghost_mlp_at_every_whole_ratio(ratio: int) -> None:
    mlp = GhostMlp(dim=6, ratio=ratio)
    x = torch.randn(2, 5, 6)
    hidden = F.gelu(mlp.fc1(x))
    scales = {name: module for name, module in mlp.named_children() if name.startswith("cheap_operation")}
    assert list(scales) == [f"cheap_operation{copy}" for copy in range(2, ratio + 1)]
    expected = mlp.fc2(torch.cat([hidden, *(F.gelu(scale(hidden)) for scale in scales.values())], dim=2))
    torch.testing.assert_close(mlp(x), expected)


def test_a_dense_block_concatenates_its_input_unchanged() -> None:
    fields = {"attn": Attention(dim=8, num_heads=2, qkv_bias=False), "mlp": Mlp(dim=8, hidden_dim=16), "drop_path": 0.0}
    dense, plain = DenseBlock(dim=8, growth_rate=3, **fields), Block(dim=8, **fields)  # type: ignore[arg-type]
    x = torch.randn(2, 5, 8)
    y = dense(x)
    assert torch.equal(y[..., :8], x)
    torch.testing.assert_close(y[..., 8:], dense.dense_linear(plain(x)))
    transition = Transition(dim=11)
    torch.testing.assert_close(transition(y), F.gelu(transition.linear(y)))
    assert transition(y).shape == (2, 5, 5)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (200, 168), (7, 300)])
def test_the_grid_of_the_convolutional_tokenizer(height: int, width: int) -> None:
    kernels = [nn.Conv2d(1, 2, 7, 4, 2), nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 4, 3, 2, 1)]
    tokenizer = ConvTokenizer(convolutions=kernels)
    rows, columns = tokenizer.grid(height, width)
    tokens = tokenizer(torch.randn(1, 1, height, width))
    assert tokens.shape == (1, rows * columns, 4)
    assert tokenizer.reduction == 16


def test_one_convolution_is_the_patch_embedding_of_the_vit() -> None:
    """Each token is a linear function of its own patch, in raster order."""
    project = nn.Conv2d(1, 3, 2, 2)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    tokens = ConvTokenizer(convolutions=[project])(image)
    second = torch.tensor([2.0, 3, 6, 7]) @ project.weight.flatten(1).T + project.bias
    torch.testing.assert_close(tokens[0, 1], second)


def test_a_resized_table_keeps_the_class_token_and_linear_ramps() -> None:
    table = torch.zeros(1, 17, 2)
    table[0, 0] = 9
    table[0, 1:, 0] = torch.arange(4.0).repeat_interleave(4)  # rows
    table[0, 1:, 1] = torch.arange(4.0).repeat(4)  # columns
    wide = resize_position(table, (4, 4), (4, 8))[0]
    assert wide[0].tolist() == [9, 9]
    torch.testing.assert_close(wide[1:, 0], torch.arange(4.0).repeat_interleave(8))
    columns = wide[1:, 1].unflatten(0, (4, 8))
    torch.testing.assert_close(columns + columns.flip(1), torch.full((4, 8), 3.0))
    assert (columns.diff(dim=1) > 0).all()
    own = sinusoid_table(17, 6)
    assert torch.equal(resize_position(own, (4, 4), (4, 4)), own)


def test_layer_scale_is_that_of_timm() -> None:
    """The same values and names, in half precision too."""
    ours, theirs = LayerScale(dim=6, init=0.3), timm.layers.LayerScale(6, init_values=0.3)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 6)
    for one in (x, x.bfloat16()):
        assert torch.equal(ours(one), theirs(one))
        assert ours(one).dtype == torch.float32


def test_layer_scale_ends_both_branches() -> None:
    torch.manual_seed(0)
    modules = {"attn": Attention(dim=8, num_heads=2, qkv_bias=True), "mlp": Mlp(dim=8, hidden_dim=16)}
    scale1, scale2 = LayerScale(dim=8, init=0.5), LayerScale(dim=8, init=2)
    block = Block(dim=8, drop_path=0.0, after_attn={"ls1": scale1}, after_mlp={"ls2": scale2}, **modules)
    x = torch.randn(2, 5, 8)
    y = x + 0.5 * block.attn(block.norm1(x))
    torch.testing.assert_close(block(x), y + 2 * block.mlp(block.norm2(y)))
    assert [name for name, _ in block.named_children()][:6] == ["norm1", "attn", "ls1", "norm2", "mlp", "ls2"]


DENSE = "model.backbone={kind: dense, blocks: [1, 1], growth_rate: 32, embed_dim: 64, num_heads: 2}"


@pytest.mark.parametrize("backbone", ["model.backbone.depth=2", DENSE])
def test_layer_scale_of_a_spec(backbone: str) -> None:
    """Every block has it with the value of the spec; initialisation of the model leaves it."""
    model = load_spec("t2t_vit_7", ["model.image_size=64", backbone, "model.backbone.layer_scale=1e-5"]).model
    state = build_model(model).state_dict()
    gammas = {name: value for name, value in state.items() if name.endswith("gamma")}
    blocks = sorted({name.split(".ls")[0] for name in gammas})
    assert list(gammas) == [f"{block}.ls{number}.gamma" for block in blocks for number in (1, 2)]
    assert len(blocks) == 2
    assert all((value == 1e-5).all() for value in gammas.values())
    kept = fit(model, Budget(macs=3 * 10**9), Axis.IMAGE_SIZE).best.model.backbone
    assert kept.layer_scale == 1e-5
