import pytest
import torch
from torch import Tensor, nn

from t2tbuild import build_model, load_spec, measure_cost, predict_cost
from t2tbuild.cost.counter import count_model
from t2tbuild.errors import CostError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec, catalog

OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]


@pytest.mark.parametrize("name", OURS)
def test_closed_form_equals_fvcore_on_shipped_specs(name: str) -> None:
    model = load_spec(name).model
    assert predict_cost(model) == measure_cost(build_model(model))


def test_no_formula_covers_a_model_of_timm() -> None:
    spec = load_spec("resnet50").model
    with pytest.raises(CostError, match="resnet50 is a model of timm, which no formula covers; measure_cost counts it"):
        predict_cost(spec)
    cost = measure_cost(build_model(spec), (3, 224, 224))
    assert cost.params == cost.trainable_params == 25_557_032
    assert [part.name for part in cost.parts][:2] == ["conv1", "bn1"]


def test_head_by_hand(small: ModelSpec) -> None:
    head = predict_cost(small).parts[-1]
    assert (head.params, head.macs) == (32 * 10 + 10, 32 * 10)


def test_attention_counts_both_matrix_products(small: ModelSpec) -> None:
    """One more block costs its linears, its norms and 2 N^2 C for Q K^T and A V."""
    deeper = small.model_copy(update={"backbone": small.backbone.model_copy(update={"depth": 3})})
    tokens, dim = small.tokens, 32
    linears = tokens * (4 * dim * dim + 2 * dim * 64)
    assert predict_cost(deeper).macs - predict_cost(small).macs == linears + 2 * 5 * tokens * dim + 2 * tokens**2 * dim


class _Cumulative(nn.Module):
    def forward(self, x_BNC: Tensor) -> Tensor:
        return x_BNC.cumsum(dim=1)


def test_an_operator_that_nobody_listed_fails_the_count(small: ModelSpec) -> None:
    model = build_model(small)
    model.blocks.append(_Cumulative())
    with pytest.raises(CostError, match="aten::cumsum"):
        measure_cost(model)


def test_a_module_outside_every_part_fails_the_count(small: ModelSpec) -> None:
    model = build_model(small)
    model.blocks.append(nn.Linear(32, 32))
    with pytest.raises(CostError, match="belongs to no part"):
        measure_cost(model)


def test_counting_leaves_the_model_as_it_was(small: ModelSpec) -> None:
    model: T2TViT = build_model(small).train()
    before = torch.get_rng_state()
    measure_cost(model)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_huge_model_is_counted_without_its_memory() -> None:
    """A hundred billion parameters, and full attention among 2^20 tokens: the meta device holds no data."""
    overrides = ["model.image_size=4096", "model.backbone.embed_dim=16384", "model.backbone.num_heads=128"]
    model = load_spec("t2t_vit_t_14", [*overrides, "model.backbone.depth=40"]).model
    counted = count_model(model)
    assert counted == predict_cost(model)
    assert counted.params > 100 * 10**9
