"""What a person can check by hand."""

import math

import pytest
import torch

from t2tbuild import build_model
from t2tbuild.modules.drop_path import DropPath
from t2tbuild.modules.performer import TokenPerformer, attend, random_features
from t2tbuild.modules.position import sinusoid_table
from t2tbuild.modules.soft_split import SoftSplit, windows_along
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
    rows, columns = windows_along(height, 7, 4, 2), windows_along(width, 7, 4, 2)
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
    wanted = torch.exp(q @ k.transpose(1, 2))
    torch.testing.assert_close(torch.stack(estimates).mean(0), wanted, rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_random_features_stay_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """exp of features overflows half precision; users of the released code met NaN there."""
    performer = TokenPerformer(in_dim=12, dim=8, kernel_ratio=0.5, dropout=0).eval()
    x = torch.randn(2, 5, 12)
    with torch.autocast("cpu", dtype=dtype):
        k, q, v = performer.kqv(performer.norm1(x)).chunk(3, dim=-1)
        assert k.dtype == dtype
        attended = attend(k, q, v, performer.w)
    assert attended.dtype == torch.float32
    wanted = torch.exp(k.float() @ performer.w.T - k.float().square().sum(-1, keepdim=True) / 2)
    assert torch.isfinite(attended).all()
    features, top = random_features(k, performer.w, (1, 2))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features * torch.exp(top), wanted)


@pytest.mark.parametrize("size", [1e-3, 1.0, 4.0, 12.0, 300.0])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_performer_keeps_its_head_where_exponentials_do_not(size: float, aligned: bool) -> None:
    """Tokens so long that every feature is 0 in float32, or so near a random direction that sums overflow it.

    What is right is the formula in float64, the released code's 1e-8 included.
    """
    torch.manual_seed(0)
    performer = TokenPerformer(in_dim=12, dim=256, kernel_ratio=1.0, dropout=0)
    x = size * torch.randn(3, 2, 7, 256) / 16
    if aligned:  # |w|^2 / 2 = 128 is the largest exponent that there is, and exp(2 * 128) is beyond float32
        x = performer.w[:7].expand(3, 2, 7, 256) * min(size, 1.0)
    k, q, v = (one.clone().requires_grad_() for one in x)
    y = attend(k, q, v, performer.w.detach())
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


def test_sinusoid_table_at_known_places() -> None:
    table = sinusoid_table(3, 4)[0]
    assert table[0].tolist() == [0, 1, 0, 1]
    wanted = [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]
    torch.testing.assert_close(table[1], torch.tensor(wanted))


def test_drop_path_keeps_the_mean_and_is_silent_in_evaluation() -> None:
    torch.manual_seed(0)
    drop, ones = DropPath(0.25), torch.ones(4000, 1, 1)
    kept = drop.train()(ones)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(ones), ones)


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
