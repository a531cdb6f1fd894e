"""A node that the package does not know: its node, module, builder and symbolic forward are all it takes."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from t2tbuild import build, build_model, load_spec, measure_cost, predict_cost
from t2tbuild.cost.memory import predict_memory
from t2tbuild.cost.model import EVERY_LEVEL, differences
from t2tbuild.errors import CostError
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.report.architecture import build_architecture
from t2tbuild.report.diagram import diagram_svg
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.base import Node
from t2tbuild.spec.tokenizer import T2TTokenizer
from t2tbuild.symbolic import model as symbolic_model
from t2tbuild.symbolic import token_attention
from t2tbuild.symbolic.forward import Forward, Split
from t2tbuild.symbolic.forward import Tensor as SymbolicTensor


class MeanAttention(Node):
    """The node: every token reads the mean of all tokens."""

    kind: Literal["mean"] = "mean"

    def describe(self, token_dim: int) -> str:
        return f"mean of {token_dim} channels"


class TokenMean(nn.Module):
    """The module: v + proj(mean_n(v)), v = value(norm1(x))."""

    def __init__(self, *, in_dim: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.value = nn.Linear(in_dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BCHW: Tensor, soft_split: SoftSplit) -> Tensor:
        v_BNC = soft_split.project(x_BCHW, self.value, self.norm1)
        return v_BNC + self.proj(v_BNC.mean(dim=1, keepdim=True))  # type: ignore[no-any-return]


def build_mean(_node: MeanAttention, in_dim: int, dim: int) -> nn.Module:
    """The builder."""
    return TokenMean(in_dim=in_dim, dim=dim)


def mean(f: Forward, tokens: Split, _node: MeanAttention, dim: int) -> SymbolicTensor:
    """The symbolic forward."""
    v = f.project("value", tokens, dim, norm="norm1")
    return f.add(v, f.linear("proj", f.apply("mean", [v], (1, dim)), dim))


@pytest.fixture
def model(small: ModelSpec) -> ModelSpec:
    """A small model whose first stage has the new attention, of which nothing is known yet."""
    symbolic_model._tokenizer_parts.cache_clear()
    tokenizer = load_spec("t2t_vit_7").model.tokenizer  # type: ignore[union-attr]
    assert isinstance(tokenizer, T2TTokenizer)
    first, *others = tokenizer.stages
    stages = (first.model_copy(update={"attention": MeanAttention()}), *others)
    return small.model_copy(update={"image_size": 64, "tokenizer": tokenizer.model_copy(update={"stages": stages})})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.TOKEN_ATTENTIONS, MeanAttention, build_mean)
    monkeypatch.setitem(token_attention.TOKEN_ATTENTIONS, MeanAttention, mean)


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
    monkeypatch.setitem(build.TOKEN_ATTENTIONS, MeanAttention, build_mean)
    built = build_model(model)
    cost = measure_cost(built)
    names = ["cls_token, pos_embed", "tokens_to_token", "blocks", "norm", "head_drop", "head"]
    assert [part.name for part in cost.parts] == names
    assert cost.params == sum(parameter.numel() for parameter in built.parameters())
