"""DeiT's distillation token, compared with values by hand, with the model without it, and with timm's model."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

import t2tbuild.timm
from t2tbuild import build_model
from t2tbuild.modules.position import fit_position, resize_position, sinusoid_table
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec

OWN = {"dist_token", "head_dist.weight", "head_dist.bias"}


@pytest.fixture
def distilled(small: ModelSpec) -> ModelSpec:
    """The small model with the token and without dropout, so that training mode is deterministic."""
    data = small.model_dump()
    data["tokenizer"]["stages"][0]["attention"] = {"kind": "performer", "dropout": 0}
    return ModelSpec.model_validate(data | {"distillation_token": True})


def images(number: int = 2, size: int = 32) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_logits_by_hand(distilled: ModelSpec) -> None:
    """The first head reads the first token, the second head the second; each is a linear layer."""
    model = build_model(distilled)
    tokens = torch.zeros(1, 6, 32)
    tokens[0, 0], tokens[0, 1] = 1, 2
    model.head.weight.data.fill_(1)  # type: ignore[operator, union-attr]
    model.head_dist.weight.data.fill_(10)  # type: ignore[operator, union-attr]
    model.head_dist.bias.data.fill_(4)  # type: ignore[operator, union-attr]
    assert model.forward_head(tokens).unique().tolist() == [(32 + 640 + 4) / 2]  # type: ignore[union-attr]
    assert model.forward_head(tokens, pre_logits=True).unique().tolist() == [1.5]  # type: ignore[union-attr]
    model.set_distilled_training()
    pair = model.train().forward_head(tokens)
    assert isinstance(pair, tuple)
    assert [logits.unique().tolist() for logits in pair] == [[32], [644]]


def test_the_pair_of_logits_only_in_distilled_training(distilled: ModelSpec) -> None:
    model = build_model(distilled)
    averaged = model.train()(images())
    model.set_distilled_training()
    logits, logits_dist = model(images())
    assert logits.shape == logits_dist.shape == (2, 10)
    assert not torch.allclose(logits, logits_dist, rtol=0.1)
    torch.testing.assert_close((logits + logits_dist) / 2, averaged)
    torch.testing.assert_close(model.eval()(images()), averaged)
    model.set_distilled_training(False)
    assert torch.equal(model.train()(images()), averaged)


def test_each_loss_trains_its_own_head_and_both_tokens(distilled: ModelSpec) -> None:
    model = build_model(distilled).train()
    model.set_distilled_training()
    for index, (trained, other) in enumerate([(model.head, model.head_dist), (model.head_dist, model.head)]):
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images())[index], torch.tensor([3, 4])).backward()
        assert trained is not None and other is not None
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained.parameters())
        assert all(parameter.grad is None for parameter in other.parameters())
        for token in (model.cls_token, model.dist_token):
            assert token is not None and token.grad is not None and token.grad.any()


def test_a_model_without_the_token_has_none_of_its_parameters(small: ModelSpec, distilled: ModelSpec) -> None:
    """The token adds three keys, and one row of the position table."""
    plain, more = build_model(small), build_model(distilled)
    assert more.state_dict().keys() - plain.state_dict().keys() == OWN
    assert list(plain.state_dict()) == [key for key in more.state_dict() if key not in OWN]
    assert (plain.num_prefix_tokens, more.num_prefix_tokens) == (1, 2)
    assert (plain.dist_token, plain.head_dist) == (None, None)
    assert plain.no_weight_decay() == {"cls_token", "pos_embed"}
    assert (small.tokens, distilled.tokens) == (5, 6)
    assert more.dist_token is not None
    assert more.dist_token.shape == (1, 1, 32)
    assert torch.equal(more.pos_embed, sinusoid_table(6, 32))
    with pytest.raises(ValueError, match="no distillation token; write distillation_token: true"):
        plain.set_distilled_training()
    plain.set_distilled_training(False)


def test_the_blocks_read_class_distillation_raster(distilled: ModelSpec) -> None:
    """The tokens are 100, 200 and zero, before the positions are added."""
    model = build_model(distilled)
    assert model.dist_token is not None
    model.cls_token.data.fill_(100)
    model.dist_token.data.fill_(200)
    for parameter in model.tokens_to_token.project.parameters():
        parameter.data.zero_()
    x_NC = (model._embed(images(1)) - model.pos_embed)[0]
    torch.testing.assert_close(x_NC.mean(dim=1), torch.tensor([100.0, 200, 0, 0, 0, 0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("position", ["sinusoid", "learned"])
def test_another_image_size_keeps_both_rows(distilled: ModelSpec, position: str) -> None:
    backbone = distilled.backbone.model_copy(update={"position": position})
    model = build_model(distilled.model_copy(update={"backbone": backbone})).eval()
    model.pos_embed.data[:, 0], model.pos_embed.data[:, 1], model.pos_embed.data[:, 2:] = 5, 7, 2
    model.set_input_size((48, 96))
    assert model.pos_embed.shape == (1, 2 + 3 * 6, 32)
    assert model.pos_embed[0, :, 0].tolist() == pytest.approx([5, 7] + [2] * 18)
    assert model.pos_embed.requires_grad == (position == "learned")
    assert model(torch.zeros(1, 3, 48, 96)).shape == (1, 10)


def test_a_table_is_fitted_behind_its_prefix() -> None:
    """18 rows are 2 and 4 x 4. With a prefix of 1 they match no grid, and neither does one row less."""
    table = torch.arange(18.0)[None, :, None]
    assert torch.equal(fit_position(table, (4, 4), None, prefix=2), table)
    larger = fit_position(table, (8, 8), None, prefix=2)
    assert torch.equal(larger, resize_position(table, (4, 4), (8, 8), prefix=2))
    assert larger[0, :2, 0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="17 positions is not known"):
        fit_position(table, (4, 4), None)
    with pytest.raises(ValueError, match="positions is not known"):
        fit_position(table[:, :1], (4, 4), None, prefix=2)


def test_intermediates_leave_out_both_tokens(distilled: ModelSpec) -> None:
    model = build_model(distilled).eval()
    final, intermediates = model.forward_intermediates(images(), return_prefix_tokens=True, norm=True)
    assert [(map_.shape, prefix.shape) for map_, prefix in intermediates] == [((2, 32, 2, 2), (2, 2, 32))] * 2
    torch.testing.assert_close(intermediates[-1][0].flatten(2).transpose(1, 2), final[:, 2:])
    torch.testing.assert_close(intermediates[-1][1], final[:, :2])


def test_pooling_and_other_classes(distilled: ModelSpec) -> None:
    """With "avg", both heads read the mean of the image's tokens. Without heads, the model returns their input."""
    model = build_model(distilled).eval()
    tokens = model.forward_features(images())
    assert model.get_classifier() == (model.head, model.head_dist)
    model.reset_classifier(3, "avg")
    assert model.head_dist is not None
    pooled = tokens[:, 2:].mean(dim=1)
    torch.testing.assert_close(model(images()), (model.head(pooled) + model.head_dist(pooled)) / 2)
    torch.testing.assert_close(model.forward_head(tokens, pre_logits=True), pooled)
    model.reset_classifier(0, "token")
    torch.testing.assert_close(model(images()), tokens[:, :2].mean(dim=1))
    model.reset_classifier(0, "")
    assert torch.equal(model(images()), tokens)
    model.reset_classifier(7, "token")
    model.train().set_distilled_training()
    assert [logits.shape for logits in model(images())] == [(2, 7), (2, 7)]


def test_layer_groups_contain_the_token_and_the_head(distilled: ModelSpec) -> None:
    model = timm.create_model(t2tbuild.timm.ANY, spec=distilled.model_dump(mode="json"))
    undecayed = model.no_weight_decay()
    assert undecayed == {"cls_token", "dist_token", "pos_embed"}
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=undecayed)
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(scales) == sum(1 for _ in model.parameters())
    assert scales[id(model.dist_token)] == scales[id(model.cls_token)] == min(scales.values())
    assert scales[id(model.head_dist.weight)] == scales[id(model.head.weight)] == 1
    assert decays[id(model.dist_token)] == 0


@pytest.mark.parametrize("training", [False, True])
def test_traced_and_compiled(distilled: ModelSpec, training: bool) -> None:
    """One graph; the pair of logits in distilled training, else the mean."""
    model = build_model(distilled).train(training)
    model.set_distilled_training()
    traced = torch.fx.symbolic_trace(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    expected = model(images())
    assert isinstance(expected, tuple) == training
    torch.testing.assert_close(traced(images()), expected)
    torch.testing.assert_close(compiled(images()), expected)


def deit(**fields: Any) -> tuple[nn.Module, T2TViT]:
    """timm's deit_tiny_distilled_patch16_224 at 64 pixels, and ours with its weights and its epsilon."""
    torch.manual_seed(0)
    theirs = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, **fields)
    backbone = {"depth": 12, "embed_dim": 192, "num_heads": 3, "mlp_ratio": 4, "qkv_bias": True, "position": "learned"}
    ours = build_model(
        ModelSpec.model_validate(
            {
                "name": "deit",
                "image_size": 64,
                "tokenizer": {"kind": "patch", "patch_size": 16},
                "backbone": backbone,
                "distillation_token": True,
            }
            | fields
        )
    )
    renamed = {
        key.replace("patch_embed.proj", "tokens_to_token.project"): value for key, value in theirs.state_dict().items()
    }
    ours.load_state_dict(renamed)
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return theirs, ours


def test_our_model_equals_timms_distilled_deit() -> None:
    """All keys and shapes except the name of the patch embedding; logits, pair, features and pooled features."""
    theirs, ours = (model.eval() for model in deit(num_classes=5))
    torch.testing.assert_close(ours(images(2, 64)), theirs(images(2, 64)))
    tokens = ours.forward_features(images(2, 64))
    torch.testing.assert_close(tokens, theirs.forward_features(images(2, 64)))  # type: ignore[operator]
    pooled, expected = (model.forward_head(tokens, pre_logits=True) for model in (ours, theirs))  # type: ignore[operator]
    torch.testing.assert_close(pooled, expected)
    for model in (theirs, ours):
        model.train()
        model.set_distilled_training()  # type: ignore[operator]
    torch.testing.assert_close(ours(images(2, 64)), theirs(images(2, 64)))
    assert sum(parameter.numel() for parameter in ours.parameters()) == sum(
        parameter.numel() for parameter in theirs.parameters()
    )
