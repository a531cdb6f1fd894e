"""Our models behave as timm models: the checks of timm's own model tests for vision transformers."""

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from shipped import DISTINCT
from timm.models import FeatureInfo
from timm.optim import param_groups_layer_decay
from torch.fx import Interpreter
from torchvision.models.feature_extraction import create_feature_extractor

import t2tbuild.timm
from t2tbuild import build_model, load_spec, measure_cost
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec, catalog

NAMES = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]
FEW = ["t2t_vit_7", "t2t_vit_t_14", "t2t_vit_16_ghost", "t2t_vit_14_se", "t2t_vit_dense", "t2t_vit_c_14", "vit_s16"]
EACH = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in sorted({*FEW, *DISTINCT})]


def create(name: str, **arguments: Any) -> Any:
    return timm.create_model(name, **({"img_size": 64} | arguments))


def images(channels: int = 3, size: int | tuple[int, int] = 64) -> torch.Tensor:
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_every_spec_of_ours_is_listed() -> None:
    assert set(timm.list_models("t2t_vit*")) == {*(name for name in NAMES if name.startswith("t2t")), t2tbuild.timm.ANY}
    assert {"vit_s16", "vit_dense"} <= set(timm.list_models("vit_*"))
    assert set(timm.list_models(module="timm")) == {*NAMES, t2tbuild.timm.ANY}
    assert timm.is_model("t2t_vit_14")


@pytest.mark.slow
def test_importing_t2tbuild_registers_nothing_in_timm() -> None:
    code = "import timm, t2tbuild; t2tbuild.load_spec('t2t_vit_14'); print(timm.list_models('t2t*'))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_model_builds_as_timm_expects(name: str) -> None:
    """Check attributes, default configuration, gradients of every parameter, and removing and resetting the head."""
    model = create(name, num_classes=42).train()
    config = model.default_cfg
    assert config["architecture"] == name
    assert config["input_size"] == (3, *load_spec(name).model.image)
    keys = model.state_dict().keys()
    assert {f"{config['first_conv']}.weight", f"{config['classifier']}.weight"} <= keys
    logits = model(images())
    assert logits.shape == (2, 42)
    logits.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())

    model.eval()
    features = model.forward_features(images())
    pooled = model.forward_head(features, pre_logits=True)
    assert features.shape[-1] == model.num_features
    assert pooled.shape == (2, model.head_hidden_size)
    assert torch.equal(model.forward_head(features), model(images()))
    assert model.get_classifier() is model.head
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert torch.equal(model(images()), pooled)
    model.reset_classifier(0, "")
    assert model(images()).shape == features.shape
    model.reset_classifier(5, "avg")
    assert model(images()).shape == (2, 5)
    with pytest.raises(ValueError, match="global_pool must be one of"):
        model.reset_classifier(5, "median")


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_intermediates_and_their_options(name: str) -> None:
    model = create(name).eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    final, maps = model.forward_intermediates(images())
    assert torch.equal(final, model.forward_features(images()))
    side = 64 // model.feature_info[0]["reduction"]
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(channels, side, side) for channels in info.channels()]

    last = len(maps) - 1
    tokens = model.forward_intermediates(images(), indices=[last], output_fmt="NLC", intermediates_only=True)
    assert torch.equal(tokens[0].transpose(1, 2).unflatten(2, (side, side)), maps[last])
    normed = model.forward_intermediates(images(), indices=1, norm=True, output_fmt="NLC", intermediates_only=True)
    torch.testing.assert_close(normed[0], final[:, 1:])
    early = model.forward_intermediates(images(), indices=[0, 1], stop_early=True, intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(early, maps, strict=False))
    outputs = model.forward_intermediates(images(), indices=2, output_dict=True, return_prefix_tokens=True)
    assert outputs.keys() == {"image_intermediates", "image_intermediates_prefix", "image_features"}
    assert outputs["image_intermediates_prefix"][0].shape[:2] == (2, 1)
    for wrong in ([last + 1], 0, last + 2, []):
        with pytest.raises(ValueError, match=rf"there are {last + 1} blocks"):
            model.forward_intermediates(images(), indices=wrong)
    with pytest.raises(ValueError, match="output_fmt must be NCHW or NLC"):
        model.forward_intermediates(images(), output_fmt="NHWC")


def test_a_norm_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the final norm has 584 channels"):
        create("t2t_vit_dense").forward_intermediates(images(), indices=[0], norm=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_features_only_gives_one_map_per_requested_block(name: str) -> None:
    whole = create(name).eval()
    features = create(name, features_only=True, out_indices=[1, 3, -1]).eval()
    features.model.load_state_dict(whole.state_dict(), strict=False)
    got = features(images())
    last = len(whole.blocks) - 1
    wanted = whole.forward_intermediates(images(), indices=[1, 3, last], intermediates_only=True)
    assert [map_.shape[1] for map_ in got] == features.feature_info.channels()
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert len(create(name, features_only=True, out_indices=[0]).model.blocks) == 1  # later blocks are not built


def test_arguments_of_create_model() -> None:
    arguments = {"num_classes": 10, "in_chans": 1, "img_size": 96, "drop_path_rate": 0.1, "features_only": True}
    model = timm.create_model("t2t_vit_14", **arguments)
    assert [map_.shape for map_ in model(images(1, 96))] == [(2, 384, 6, 6)] * 3
    plain = timm.create_model("t2t_vit_14", num_classes=10, drop_path_rate=0.1, drop_rate=0.2, img_size=(64, 96))
    assert plain.blocks[-1].drop_path.drop_prob == pytest.approx(0.1)
    assert plain.head_drop.p == 0.2
    assert plain(images(3, (64, 96))).shape == (2, 10)
    meta = timm.create_model("t2t_vit_14", device="meta", dtype=torch.bfloat16)
    assert {(value.device.type, value.dtype) for value in meta.state_dict().values()} == {("meta", torch.bfloat16)}
    with pytest.raises(TypeError, match="dynamic_img_size"):
        timm.create_model("t2t_vit_14", dynamic_img_size=True)


def test_the_weights_are_those_of_build_model() -> None:
    spec = load_spec("t2t_vit_7", ["model.image_size=64"]).model
    torch.manual_seed(0)
    ours = build_model(spec).eval()
    torch.manual_seed(0)
    theirs = create("t2t_vit_7").eval()
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    assert torch.equal(ours(images()), theirs(images()))


@pytest.mark.parametrize("name", ["t2t_vit_7", "vit_s16", "t2t_vit_dense"])
def test_another_input_size(name: str) -> None:
    """The model accepts the new size, refuses the old one, and is counted at the new size."""
    model = create(name).eval()
    model.set_input_size((96, 128))
    assert model.grid == (6, 8)
    assert model(images(3, (96, 128))).shape == (2, 1000)
    assert model.pos_embed.shape[1] == 49
    with pytest.raises(AssertionError, match="takes images of"):
        model(images())
    assert sum(part.params for part in measure_cost(model).parts) == sum(
        value.numel() for value in model.state_dict().values()
    )
    for arguments in ({}, {"img_size": None}):
        model.set_input_size(**arguments)
        assert model.grid == (6, 8)
    with pytest.raises(ValueError, match="patch_size cannot be changed"):
        model.set_input_size(64, patch_size=8)
    with pytest.raises(ValueError, match="an image of 0 x 64 pixels"):
        model.set_input_size((0, 64))
    model.set_input_size(64)
    assert model(images()).shape == (2, 1000)


def test_a_pruned_dense_model_still_runs() -> None:
    model = create("t2t_vit_dense").eval()
    assert model.prune_intermediate_layers([1]) == [1]
    assert model.forward_features(images()).shape == (2, 17, 256)


@pytest.mark.parametrize("name", FEW)
def test_gradient_checkpointing_keeps_the_output(name: str) -> None:
    model = create(name).train()
    model.set_grad_checkpointing()
    torch.manual_seed(0)
    checkpointed = model(images())
    model.set_grad_checkpointing(False)
    torch.manual_seed(0)
    assert torch.equal(model(images()), checkpointed)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_symbolic_tracing_and_its_feature_extraction(name: str) -> None:
    model = create(name).eval()
    traced = torch.fx.symbolic_trace(model)
    with torch.inference_mode():
        assert torch.equal(traced(images()), model(images()))
        assert torch.equal(Interpreter(traced).run(images()[:1]), traced(images()[:1]))
        extractor = create_feature_extractor(model, return_nodes={"norm": "tokens"})
        assert torch.equal(extractor(images())["tokens"], model.forward_features(images()))


@pytest.mark.parametrize("name", FEW)
def test_layer_groups_cover_every_parameter(name: str) -> None:
    """Layer-wise learning rates: the stem decays most, the head not at all; no weight decay for excluded parameters."""
    model = create(name)
    excluded = model.no_weight_decay()
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=excluded)
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(scales) == sum(1 for _ in model.parameters())
    assert scales[id(model.cls_token)] == min(scales.values())
    assert scales[id(model.head.weight)] == 1
    assert scales[id(model.blocks[0].norm1.weight)] < scales[id(model.blocks[-1].norm1.weight)]
    assert decays[id(model.cls_token)] == 0
    assert decays[id(model.head.weight)] == 0.05


def test_any_spec_by_its_fields(small: ModelSpec) -> None:
    model = timm.create_model(t2tbuild.timm.ANY, spec=small.model_dump(mode="json"), num_classes=3)
    assert isinstance(model, T2TViT)
    assert model.default_cfg["input_size"] == (3, 32, 32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
