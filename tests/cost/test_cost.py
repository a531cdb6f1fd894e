import re

import pytest
import timm
import torch
from torch import Tensor, nn

from t2tbuild import build_model, load_spec, measure_cost, predict_cost
from t2tbuild.cost.counter import count_model
from t2tbuild.errors import CostError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec, catalog
from tests.flop_counter_check import fvcore_products, torch_products

OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_closed_form_equals_fvcore_on_shipped_specs(name: str) -> None:
    spec = load_spec(name).model
    with torch.device("meta"):  # initial weights take longer than the count
        model = build_model(spec)
    assert predict_cost(spec) == measure_cost(model.to_empty(device="cpu"))


def test_the_closed_form_does_not_cover_timm_models() -> None:
    spec = load_spec("resnet50").model
    with pytest.raises(CostError, match=r"resnet50 is a timm model.*measure_cost"):
        predict_cost(spec)
    cost = measure_cost(build_model(spec), (3, 224, 224))
    assert cost.params == cost.trainable_params == 25_557_032
    assert [part.name for part in cost.parts][:2] == ["conv1", "bn1"]


def test_head_by_hand(small: ModelSpec) -> None:
    head = predict_cost(small).parts[-1]
    assert (head.params, head.macs) == (32 * 10 + 10, 32 * 10)


def test_a_distillation_token_by_hand(small: ModelSpec) -> None:
    """It adds a token, a row of the table and a head; the blocks read six tokens instead of five."""
    plain, distilled = (
        predict_cost(small.model_copy(update={"distillation_token": token}), 2) for token in (False, True)
    )
    *_, norm, head, head_dist = distilled.parts
    assert (head_dist.name, head_dist.params, head_dist.macs) == ("distillation head", 32 * 10 + 10, 32 * 10)
    assert head == plain.parts[-1]
    assert norm.macs == 5 * 6 * 32
    assert distilled.params - plain.params == 32 + 32 + 32 * 10 + 10
    assert distilled.trainable_params - plain.trainable_params == 32 + 32 * 10 + 10
    (prefix,) = (part for part in distilled.parts if "position" in part.name)
    assert [(row.name, row.params) for row in prefix.parts] == [
        ("cls_token", 32),
        ("dist_token", 32),
        ("pos_embed", 6 * 32),
    ]


def test_attention_counts_both_matrix_products(small: ModelSpec) -> None:
    """One more block costs its linears, its norms and 2 N^2 C for Q K^T and A V."""
    deeper = small.model_copy(update={"backbone": small.backbone.model_copy(update={"depth": 3})})
    tokens, dim = small.tokens, 32
    linears = tokens * (4 * dim * dim + 2 * dim * 64)
    assert predict_cost(deeper).macs - predict_cost(small).macs == linears + 2 * 5 * tokens * dim + 2 * tokens**2 * dim


TIMM = {  # name: parameters, the image's side, operators that fvcore alone cannot count
    "cait_xxs24_224": (11_956_264, 224, "softmax of its own attention"),
    "convit_tiny": (5_710_512, 224, "repeat_interleave, rsub, softmax"),
    "convmixer_768_32": (21_110_248, 64, "a convolution with padding 'same'"),
    "efficientnet_b0": (5_288_548, 64, "silu_"),
    "eva02_tiny_patch14_224": (5_502_144, 224, "neg of rotary positions, silu"),
    "levit_128s": (7_777_058, 224, "hardswish, reshape_as, softmax"),
    "mvitv2_tiny": (24_173_320, 224, "softmax, and einsum was rounded"),
    "nf_regnet_b0": (8_764_288, 64, "reshape_as of standardised weights, silu"),
}


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_families_of_timm_count_in_full(name: str) -> None:
    """The products equal those of FlopCounterMode."""
    params, side, _ = TIMM[name]
    model = timm.create_model(name)
    cost = measure_cost(model, (3, side, side))
    assert cost.params == sum(parameter.numel() for parameter in model.parameters()) == params
    assert isinstance(cost.macs, int)
    assert fvcore_products(model, (3, side, side)) == torch_products(model, (3, side, side))


class _Spectrum(nn.Module):
    def forward(self, x_BNC: Tensor) -> Tensor:
        return torch.fft.fft(x_BNC, dim=1).real


def test_an_unlisted_operator_fails_the_count(small: ModelSpec) -> None:
    model = build_model(small)
    model.blocks.append(_Spectrum())
    message = "fvcore cannot count aten::fft_fft in blocks.2, aten::real in blocks.2; the total would be too low"
    with pytest.raises(CostError, match=f"^{re.escape(message)}$"):
        measure_cost(model)


@pytest.mark.slow
def test_a_model_of_timm_with_an_unknown_operator_is_refused() -> None:
    with pytest.raises(CostError, match=r"aten::lstm in stages\.0\.blocks\.0\.rnn_tokens\.rnn_v, "):
        measure_cost(timm.create_model("sequencer2d_s"), (3, 224, 224))


def test_a_module_outside_every_part_fails_the_count(small: ModelSpec) -> None:
    model = build_model(small)
    model.blocks.append(nn.Linear(32, 32))
    with pytest.raises(CostError, match="belongs to no part"):
        measure_cost(model)


def test_counting_does_not_change_the_model(small: ModelSpec) -> None:
    model: T2TViT = build_model(small).train()
    before = torch.get_rng_state()
    measure_cost(model)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_huge_model_is_counted_without_its_memory() -> None:
    """A hundred billion parameters, and full attention among 2^20 tokens: the meta device holds no data."""
    overrides = ["model.image_size=4096", "model.backbone.embed_dim=16384", "model.backbone.num_heads=128"]
    model = load_spec("t2t_vit_t_14", [*overrides, "model.backbone.depth=40"]).model
    counted = count_model(model)
    assert counted == predict_cost(model)
    assert counted.params > 100 * 10**9
