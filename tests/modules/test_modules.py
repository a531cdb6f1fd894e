"""Modules compared with values and formulas that can be checked by hand."""

import math

import pytest
import torch
from torch import nn

from t2tbuild import build_model
from t2tbuild.modules.block import Block
from t2tbuild.modules.performer import TokenPerformer, performer_attention, random_features
from t2tbuild.modules.position import sinusoid_table
from t2tbuild.modules.soft_split import SoftSplit, num_windows
from t2tbuild.modules.token_transformer import TokenAttention
from t2tbuild.spec import ModelSpec


def test_soft_split_of_a_counted_image() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    tokens = SoftSplit(patch_size=2, stride=1, padding=0)(image)
    assert tokens.shape == (1, 9, 4)
    assert tokens[0, 0].tolist() == [0, 1, 4, 5]
    assert tokens[0, 8].tolist() == [10, 11, 14, 15]


@pytest.mark.parametrize(("height", "width"), [(224, 224), (200, 200), (192, 256), (7, 300)])
def test_the_grid_is_that_of_the_tokens(height: int, width: int) -> None:
    split = SoftSplit(patch_size=7, stride=4, padding=2)
    rows, columns = num_windows(height, 7, 4, 2), num_windows(width, 7, 4, 2)
    assert split(torch.zeros(1, 1, height, width)).shape[1] == rows * columns


def test_token_attention_by_the_textbook() -> None:
    """The scale is that of the input width and the skip adds the values."""
    attention = TokenAttention(in_dim=12, dim=4).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    q, k, v = attention.qkv(x).chunk(3, dim=-1)
    weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(12), dim=-1)
    torch.testing.assert_close(attention(x), v + attention.proj(weights @ v))


def test_performer_by_its_formula() -> None:
    performer = TokenPerformer(in_dim=12, dim=8, kernel_ratio=0.5, dropout=0.1).eval()
    x = torch.randn(2, 5, 12)
    k, q, v = performer.kqv(performer.norm1(x)).chunk(3, dim=-1)

    def phi(y: torch.Tensor) -> torch.Tensor:
        return torch.exp(y @ performer.w.T - (y * y).sum(-1, keepdim=True) / 2) / math.sqrt(4)

    weights = phi(q) @ phi(k).transpose(1, 2)
    y = v + performer.proj(weights @ v / weights.sum(-1, keepdim=True))
    torch.testing.assert_close(performer(x), y + performer.mlp(performer.norm2(y)), rtol=1e-5, atol=1e-5)


def test_random_features_are_orthogonal_frozen_and_saved() -> None:
    performer = TokenPerformer(in_dim=12, dim=64, kernel_ratio=0.5, dropout=0.1)
    torch.testing.assert_close(performer.w @ performer.w.T, 32 * torch.eye(32), rtol=1e-4, atol=1e-4)
    assert not performer.w.requires_grad
    assert "w" in performer.state_dict()


def test_random_features_estimate_softmax_attention() -> None:
    """E[phi(q) phi(k)] = exp(q k) (Choromanski et al., Lemma 1): with many features the estimate comes close."""
    torch.manual_seed(0)
    performer = TokenPerformer(in_dim=4, dim=4, kernel_ratio=8, dropout=0)
    q, k = torch.randn(2, 1, 16, 4) / 4
    estimates = []
    for _ in range(1000):
        performer.w.data = torch.randn(32, 4)
        phi_q, phi_k = (
            features * torch.exp(top) for features, top in (random_features(x, performer.w, (2,)) for x in (q, k))
        )
        estimates.append(phi_q @ phi_k.transpose(1, 2) / 32)
    expected = torch.exp(q @ k.transpose(1, 2))
    torch.testing.assert_close(torch.stack(estimates).mean(0), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_random_features_stay_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """exp of features overflows half precision; users of the released code met NaN there."""
    performer = TokenPerformer(in_dim=12, dim=8, kernel_ratio=0.5, dropout=0).eval()
    x = torch.randn(2, 5, 12)
    with torch.autocast("cpu", dtype=dtype):
        k, q, v = performer.kqv(performer.norm1(x)).chunk(3, dim=-1)
        assert k.dtype == dtype
        attended = performer_attention(q, k, v, performer.w)
    assert attended.dtype == torch.float32
    expected = torch.exp(k.float() @ performer.w.T - k.float().square().sum(-1, keepdim=True) / 2)
    assert torch.isfinite(attended).all()
    features, top = random_features(k, performer.w, (1, 2))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features * torch.exp(top), expected)


@pytest.mark.parametrize("size", [1e-3, 1.0, 4.0, 12.0, 300.0])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_performer_is_exact_where_exponentials_overflow(size: float, aligned: bool) -> None:
    """Tokens so long that every feature is 0 in float32, or so close to a random feature that sums overflow.

    The reference is the formula in float64, with the released code's epsilon of 1e-8.
    """
    torch.manual_seed(0)
    performer = TokenPerformer(in_dim=12, dim=256, kernel_ratio=1.0, dropout=0)
    x = size * torch.randn(3, 2, 7, 256) / 16
    if aligned:  # |w|^2 / 2 = 128 is the largest possible exponent, and exp(2 * 128) exceeds float32
        x = performer.w[:7].expand(3, 2, 7, 256) * min(size, 1.0)
    k, q, v = (one.clone().requires_grad_() for one in x)
    y = performer_attention(q, k, v, performer.w.detach())
    y.sum().backward()

    def phi(z: torch.Tensor) -> torch.Tensor:
        z, w = z.double(), performer.w.double()
        return torch.exp(z @ w.T - z.square().sum(-1, keepdim=True) / 2) / 16

    weights = phi(q) @ phi(k).transpose(1, 2)
    torch.testing.assert_close(
        y, (weights @ v.double() / (weights.sum(-1, keepdim=True) + 1e-8)).float(), rtol=2e-4, atol=1e-5
    )
    for one in (k, q, v):
        assert one.grad is not None
        assert torch.isfinite(one.grad).all()


def test_sinusoid_table_at_known_positions() -> None:
    table = sinusoid_table(3, 4)[0]
    assert table[0].tolist() == [0, 1, 0, 1]
    expected = [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]
    torch.testing.assert_close(table[1], torch.tensor(expected))


def test_drop_path_skips_both_branches_of_an_image_in_training_only() -> None:
    torch.manual_seed(0)
    block = Block(dim=2, attn=Constant(), mlp=Constant(), drop_path=0.25)
    x_BNC = torch.zeros(4000, 1, 2)
    residual = block.train()(x_BNC)
    assert residual.unique().tolist() == pytest.approx([0, 1 / 0.75, 2 / 0.75])
    assert residual.mean().item() == pytest.approx(2, abs=0.1)
    assert torch.equal(block.eval()(x_BNC), torch.full_like(x_BNC, 2))
    assert isinstance(Block(dim=2, attn=Constant(), mlp=Constant(), drop_path=0).drop_path, nn.Identity)


def test_drop_path_draws_one_bernoulli_number_per_image() -> None:
    """The draws of a seed, to the bit: a resumed training depends on them."""
    for dtype in (torch.float32, torch.bfloat16):
        x_BNC = torch.randn(64, 5, 3, dtype=dtype)
        drop_path = Block(dim=3, attn=Constant(), mlp=Constant(), drop_path=0.3).train().drop_path
        torch.manual_seed(1)
        found = drop_path(x_BNC)
        torch.manual_seed(1)
        mask_B11 = x_BNC.new_empty(64, 1, 1).bernoulli_(0.7).div_(0.7)
        assert torch.equal(found, x_BNC * mask_B11)


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x)


def test_drop_path_rises_linearly(small: ModelSpec) -> None:
    backbone = small.backbone.model_copy(update={"depth": 5, "drop_path": 0.2})
    assert backbone.drop_paths == pytest.approx((0, 0.05, 0.1, 0.15, 0.2))


def test_an_image_of_another_size_is_refused(small: ModelSpec) -> None:
    with pytest.raises(AssertionError, match=r"takes images of \(3, 32, 32\)"):
        build_model(small)(torch.zeros(1, 3, 64, 64))


def test_same_seed_same_weights(small: ModelSpec) -> None:
    def state() -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return build_model(small).state_dict()

    first, second = state(), state()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_builds_on_the_meta_device_without_memory(small: ModelSpec) -> None:
    with torch.device("meta"):
        model = build_model(small)
    assert all(parameter.is_meta for parameter in model.parameters())
