"""best_shapes: the best predicted backbones of a budget."""

import pytest

from t2tbuild import load_spec, predict_cost
from t2tbuild.accuracy.best_shape import MAX_DEPTH, best_shapes, with_shape
from t2tbuild.errors import FieldError
from t2tbuild.spec.model import ModelSpec


def shipped(name: str) -> ModelSpec:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    return model


def test_all_fit_and_none_could_be_deeper() -> None:
    base, budget = shipped("t2t_vit_14"), 5_000_000_000
    found = best_shapes(base, lambda model: predict_cost(model).macs <= budget)
    assert found
    for one in found:
        backbone = one.model.backbone
        assert predict_cost(one.model).macs <= budget
        assert one.model.tokenizer == base.tokenizer
        deeper = with_shape(base, backbone.embed_dim, backbone.mlp_ratio, backbone.depth + 1)  # type: ignore[arg-type]
        assert backbone.depth == MAX_DEPTH or predict_cost(deeper).macs > budget
        assert backbone.embed_dim % backbone.heads[0] == 0
    lows = [one.accuracy.low or 0.0 for one in found]
    assert lows == sorted(lows, reverse=True)


def test_the_best_within_five_giga_macs_is_deep_and_narrow() -> None:
    best = best_shapes(shipped("t2t_vit_14"), lambda model: predict_cost(model).macs <= 5_000_000_000)[0]
    assert best.model.backbone.depth >= 12
    assert best.model.backbone.embed_dim <= 448
    assert (best.accuracy.top1 or 0) >= 81


def test_nothing_fits_a_budget_below_the_tokenizer() -> None:
    assert best_shapes(shipped("t2t_vit_14"), lambda model: predict_cost(model).macs <= 1_000_000) == []


def test_a_dense_backbone_has_no_published_shapes() -> None:
    with pytest.raises(FieldError, match="dense"):
        best_shapes(shipped("t2t_vit_dense"), lambda _model: True)


def test_shapes_that_the_other_fields_do_not_allow_are_left_out() -> None:
    """Squeeze-and-excitation with a reduction of 64 needs 64 channels; heads of 16 channels also give 16."""
    overrides = ["model.backbone.squeeze_excite={reduction: 64}", "model.backbone.num_heads=24"]
    model = load_spec("t2t_vit_14", overrides).model
    assert isinstance(model, ModelSpec)
    found = best_shapes(model, lambda model: predict_cost(model).macs <= 2_000_000_000)
    assert min(one.model.backbone.embed_dim for one in found) >= 64
