"""Compiled models: one graph for any batch size, in inference and training, with the same logits."""

from typing import Any

import pytest
import torch
from shipped import shallow
from torch import nn

from t2tbuild import build_model
from t2tbuild.spec import ModelSpec

pytestmark = pytest.mark.slow


def compiled(model: nn.Module, backend: str) -> Any:
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, dynamic=True, backend=backend)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["t2t_vit_16_ghost", "t2t_vit_14_se", "t2t_vit_dense"])
def test_a_structure_is_one_graph_for_any_batch(name: str) -> None:
    """Others train as one graph below, and tests/test_contract.py exports every tokenizer, backbone and option."""
    model = build_model(shallow(name)).eval()
    graph = compiled(model, "eager")
    for batch in (2, 3):
        images = torch.randn(batch, 3, 64, 64)
        torch.testing.assert_close(graph(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.nightly
def test_training_is_one_graph_for_any_batch() -> None:
    """With the gradients of the model without compilation."""
    spec = shallow("t2t_vit_t_14")
    spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"depth": 1})})
    model = build_model(spec).eval()  # without dropout
    graph = compiled(model, "aot_eager_decomp_partition")
    for batch in (2, 3):
        images, gradients = torch.randn(batch, 3, 64, 64), []
        for one in (graph, model):
            one(images).square().sum().backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
            model.zero_grad()
        for actual, expected in zip(*gradients, strict=True):
            assert (actual - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.nightly
def test_training_with_dropout_and_gradient_checkpointing_is_one_graph(small: ModelSpec) -> None:
    """Dropout and drop path draw inside the graph."""
    backbone = small.backbone.model_copy(update={"drop_path": 0.1})
    performer, _transformer, last = small.tokenizer.stages  # type: ignore[union-attr]
    tokenizer = small.tokenizer.model_copy(update={"stages": (performer, last)})
    model = build_model(small.model_copy(update={"backbone": backbone, "tokenizer": tokenizer})).train()
    model.set_grad_checkpointing(True)
    logits = compiled(model, "aot_eager_decomp_partition")(torch.randn(2, 3, 32, 32))
    logits.sum().backward()
    gradients = [one.grad for one in model.parameters() if one.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_compiled_logits_are_those_of_the_model(small: ModelSpec) -> None:
    """With inductor, the compiler of `compile: true`."""
    one_block = small.backbone.model_copy(update={"depth": 1})
    last_stages = small.tokenizer.model_copy(update={"stages": small.tokenizer.stages[1:]})  # type: ignore[union-attr]
    model = build_model(small.model_copy(update={"backbone": one_block, "tokenizer": last_stages})).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model, "inductor")(images), model(images), rtol=1e-4, atol=1e-4)
