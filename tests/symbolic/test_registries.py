"""A node that the package does not know: its node, module, builder and symbolic forward are all it takes."""

from types import ModuleType

import pytest
import torch

from t2tbuild import build, build_model, load_spec, measure_cost, predict_cost
from t2tbuild.cost.memory import predict_memory
from t2tbuild.cost.model import EVERY_LEVEL, differences
from t2tbuild.errors import CostError
from t2tbuild.report.architecture import build_architecture
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.tokenizer import T2TTokenizer
from t2tbuild.symbolic import model as symbolic_model
from t2tbuild.symbolic import token_attention
from tests.own_extension import MEAN

own = ModuleType("own")
"""The node, the module, the builder and the symbolic forward of a token attention."""
exec(MEAN.format(first="", forward=""), own.__dict__)


@pytest.fixture
def model(small: ModelSpec) -> ModelSpec:
    """A small model whose first stage has the new attention, of which nothing is known yet."""
    symbolic_model._tokenizer_parts.cache_clear()
    tokenizer = load_spec("t2t_vit_7").model.tokenizer  # type: ignore[union-attr]
    assert isinstance(tokenizer, T2TTokenizer)
    first, *others = tokenizer.stages
    stages = (first.model_copy(update={"attention": own.MeanAttention()}), *others)
    return small.model_copy(update={"image_size": 64, "tokenizer": tokenizer.model_copy(update={"stages": stages})})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.TOKEN_ATTENTIONS, own.MeanAttention, own.build)
    monkeypatch.setitem(token_attention.TOKEN_ATTENTIONS, own.MeanAttention, own.forward)


@pytest.mark.usefixtures("known")
def test_a_new_token_attention_needs_nothing_else(model: ModelSpec) -> None:
    built = build_model(model)
    assert built(torch.zeros(2, 3, 64, 64)).shape == (2, model.num_classes)
    counted = measure_cost(built, depth=EVERY_LEVEL)
    assert differences(predict_cost(model, EVERY_LEVEL), counted) == []
    assert predict_cost(model, EVERY_LEVEL) == counted
    assert [part.name for part in built.parts][1] == "token mean 1"
    assert build_architecture(model).boxes[1].detail == "147 → 64 channels, mean of 64 channels"
    assert "token mean 1" in diagram_svg(model)
    assert predict_memory(model, 2).training > predict_memory(model, 1).training


def test_a_node_without_a_symbolic_forward_has_no_predicted_cost(model: ModelSpec) -> None:
    message = "mean has no symbolic forward, which predicts costs; count it with measure_cost"
    for predict in (predict_cost, predict_memory, build_architecture):
        with pytest.raises(CostError, match=message):
            predict(model)


def test_fvcore_counts_a_node_without_a_symbolic_forward(model: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.TOKEN_ATTENTIONS, own.MeanAttention, own.build)
    built = build_model(model)
    cost = measure_cost(built)
    names = ["cls_token, pos_embed", "tokens_to_token", "blocks", "norm", "head_drop", "head"]
    assert [part.name for part in cost.parts] == names
    assert cost.params == sum(parameter.numel() for parameter in built.parameters())
