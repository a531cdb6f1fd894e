"""fvcore's count of products against torch's FlopCounterMode, family by family, exactly."""

import pytest
import torch
from fvcore.nn.jit_handles import einsum_flop_jit
from shipped import DISTINCT, OTHERS, OURS, shallow
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from t2tbuild import build_model, load_spec, measure_cost
from t2tbuild.cost import counter
from t2tbuild.errors import CostError
from t2tbuild.spec import ModelSpec
from tests.flop_counter_check import ATTENTION, CONVOLUTION, MATRIX, fvcore_products, torch_products

pytestmark = pytest.mark.slow

BLOCK = ModelSpec.model_validate(
    {
        "name": "block",
        "image_size": 32,
        "num_classes": 10,
        "tokenizer": {"kind": "patch", "patch_size": 8},
        "backbone": {"depth": 1, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2},
    }
)
TOKENS, DIM = 4 * 4 + 1, 32


@pytest.mark.parametrize("name", [*DISTINCT, *OTHERS])
def test_both_see_the_same_products_in_shipped_specs(name: str) -> None:
    """What is left of our total are normalisation and pooling, which FlopCounterMode does not count."""
    spec = shallow(name) if name in OURS else load_spec(name, ["model.image_size=64"]).model
    model, size = build_model(spec), (spec.in_chans, *spec.image)
    assert fvcore_products(model, size) == torch_products(model, size)


def test_both_by_hand() -> None:
    """16 patches of 8 x 8 x 3 values, then one block of a qkv, a projection and an MLP of twice the width."""
    by_hand = {
        CONVOLUTION: 16 * 8 * 8 * 3 * DIM,
        MATRIX: TOKENS * (3 + 1 + 2 + 2) * DIM * DIM + DIM * 10,
        ATTENTION: 2 * TOKENS * TOKENS * DIM,
    }
    model = build_model(BLOCK)
    assert fvcore_products(model, (3, 32, 32)) == torch_products(model, (3, 32, 32)) == by_hand


def test_a_distillation_token_is_one_token_and_one_head_more() -> None:
    by_hand = {
        CONVOLUTION: 16 * 8 * 8 * 3 * DIM,
        MATRIX: (TOKENS + 1) * (3 + 1 + 2 + 2) * DIM * DIM + 2 * DIM * 10,
        ATTENTION: 2 * (TOKENS + 1) ** 2 * DIM,
    }
    model = build_model(BLOCK.model_copy(update={"distillation_token": True}))
    assert fvcore_products(model, (3, 32, 32)) == torch_products(model, (3, 32, 32)) == by_hand


def test_attention_is_seen_whatever_computes_it() -> None:
    """The CPU's kernel takes [B, H, N, D] without a mask; where it does not, attention is two bmm."""
    model = build_model(BLOCK)
    attention = 2 * TOKENS * TOKENS * DIM
    whole = torch_products(model, (3, 32, 32))
    with sdpa_kernel(SDPBackend.MATH):
        apart = torch_products(model, (3, 32, 32))
    assert whole[ATTENTION] == attention and ATTENTION not in apart
    assert apart[MATRIX] == whole[MATRIX] + attention
    assert apart.total() == whole.total()


def test_without_our_handle_fvcore_misses_all_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(BLOCK)
    monkeypatch.setitem(counter.OP_HANDLES, "aten::scaled_dot_product_attention", lambda _inputs, _outputs: 0)
    missed = torch_products(model, (3, 32, 32)) - fvcore_products(model, (3, 32, 32))
    assert missed == {ATTENTION: 2 * TOKENS * TOKENS * DIM}


class _Distances(nn.Module):
    """Distances between all tokens, N N C squares added in one operator: [B, N, C] -> [B, N, N]."""

    def forward(self, x_BNC: Tensor) -> Tensor:
        return torch.cdist(x_BNC, x_BNC)


def test_what_neither_can_see_fails_our_count() -> None:
    """FlopCounterMode gives such an operator nothing, in silence; this is why ours goes by a list."""
    model = build_model(BLOCK)
    before = torch_products(model, (3, 32, 32))
    model.blocks.append(nn.Sequential(_Distances(), nn.Linear(TOKENS, DIM)))
    assert torch_products(model, (3, 32, 32)) - before == {MATRIX: TOKENS * TOKENS * DIM}  # the linear layer's
    with pytest.raises(CostError, match=r"aten::cdist in blocks\.1\.0;"):
        measure_cost(model)


class _Mix(nn.Module):
    """Each pixel's 3 channels to 7: [B, 3, H, W] -> [B, 7, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(7, 3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.einsum("bchw, dc -> bdhw", x_BCHW, self.weight)


def test_an_einsum_is_exact_where_fvcore_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """fvcore halves the 4.369e+05 that numpy prints."""
    exact = {MATRIX: 7 * 3 * 101 * 103}
    assert fvcore_products(_Mix(), (3, 101, 103)) == torch_products(_Mix(), (3, 101, 103)) == exact
    monkeypatch.setitem(counter.OP_HANDLES, "aten::einsum", einsum_flop_jit)
    assert fvcore_products(_Mix(), (3, 101, 103)) == {MATRIX: 436_900 / 2}


class _Same(nn.Sequential):
    """Padding as a word, with groups and dilation."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(6, 4, 3, padding="same", dilation=2, groups=2), nn.Conv2d(4, 5, 3, padding="valid"))


def test_convolutions_with_padding_in_words() -> None:
    by_hand = {CONVOLUTION: 10 * 9 * 4 * (6 // 2) * 9 + 8 * 7 * 5 * 4 * 9}
    assert fvcore_products(_Same(), (6, 10, 9)) == torch_products(_Same(), (6, 10, 9)) == by_hand
