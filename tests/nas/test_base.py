"""scale_to_budget: a base over the budget becomes a smaller one of the same kind."""

import re

import pytest

from t2tbuild import load_spec
from t2tbuild.cost.budget import is_within
from t2tbuild.errors import FieldError
from t2tbuild.nas.base import scale_to_budget
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.backbone import DenseBackbone
from t2tbuild.spec.budget import Budget

RATIOS = (4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2)
HEADS = (6, 6, 6, 6, 6, 6, 6, 12, 12, 12, 12, 12, 12, 12)


def base(name: str, **backbone: object) -> ModelSpec:
    overrides = [f"model.backbone.{field}={value}" for field, value in backbone.items()]
    model = load_spec(name, overrides).model
    assert isinstance(model, ModelSpec)
    return model


@pytest.mark.parametrize(
    ("macs", "blocks", "width"), [("5G", (3, 6, 5, 4), 128), ("2G", (2, 4, 3, 3), 128), ("700M", (2, 3, 3, 2), 80)]
)
def test_a_dense_base_loses_blocks_in_proportion_and_then_width(macs: str, blocks: tuple[int, ...], width: int) -> None:
    """At 700M less than half of its depth would fit at its width."""
    budget, model = Budget(macs=macs), base("t2t_vit_dense")
    scaled, (warning,) = scale_to_budget(model, budget)
    backbone = scaled.backbone
    assert isinstance(backbone, DenseBackbone)
    assert (backbone.blocks, backbone.embed_dim, backbone.growth_rate) == (blocks, width, width // 2)
    assert backbone.heads[0] * 16 == width  # 16 channels a head, as before
    assert is_within(scaled, budget)
    assert scaled.name == f"t2t_vit_dense_{sum(blocks)}x{width}"
    assert f"blocks {list(blocks)} of width {width}" in warning.message


def test_lists_of_one_value_per_block_keep_their_first_values() -> None:
    model = base("t2t_vit_14", mlp_ratio=list(RATIOS), num_heads=list(HEADS))
    for macs, width in (("3G", 384), ("1500M", 256)):
        scaled, _ = scale_to_budget(model, Budget(macs=macs))
        backbone = scaled.backbone
        assert backbone.embed_dim == width
        assert backbone.depth >= 7
        assert backbone.mlp_ratio == RATIOS[: backbone.depth]
        assert backbone.heads == tuple(heads * width // 384 for heads in HEADS[: backbone.depth])
        assert is_within(scaled, Budget(macs=macs))


def test_lists_in_a_dense_base_keep_the_first_values_of_each_group() -> None:
    ratios = [2, 2, 2, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4]
    scaled, _ = scale_to_budget(base("t2t_vit_dense", mlp_ratio=ratios), Budget(macs="3G"))
    assert isinstance(scaled.backbone, DenseBackbone)
    two, three, five, four = scaled.backbone.blocks
    assert scaled.backbone.mlp_ratio == (2,) * two + (3,) * three + (2,) * five + (4,) * four


@pytest.mark.parametrize("model", [base("t2t_vit_dense"), base("t2t_vit_14"), base("t2t_vit_14", mlp_ratio=[3] * 14)])
def test_a_base_with_a_tokenizer_over_the_budget_is_refused(model: ModelSpec) -> None:
    with pytest.raises(FieldError, match=f"the base {model.name} is over 100.0M MACs") as caught:
        scale_to_budget(model, Budget(macs="100M"))
    assert caught.value.path == ("search", "base")
    hint = r"name a base within the budget.*, or write at least search.budget.macs: (\S+)$"
    least = re.search(hint, caught.value.hint)
    assert least
    assert scale_to_budget(model, Budget(macs=least[1]))[0].backbone.depth < model.backbone.depth


def test_a_scaled_base_keeps_to_the_minimum_too() -> None:
    scaled, _ = scale_to_budget(base("t2t_vit_14"), budget := Budget(macs={"max": "3G", "min": "2900M"}))
    assert is_within(scaled, budget)
    with pytest.raises(FieldError, match="no smaller one with its tokenizer is within"):
        scale_to_budget(base("t2t_vit_14"), Budget(macs={"max": "3G", "min": "2999M"}))


def test_a_base_within_the_budget_is_unchanged() -> None:
    model = base("t2t_vit_dense")
    assert scale_to_budget(model, Budget(macs="6G")) == (model, ())
