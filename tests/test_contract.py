"""Every shipped spec, tokenizer, backbone and pair of options builds, is counted, trains, is saved and exported."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shipped import DEEPER, DISTINCT, OTHERS, OURS, shallow
from timm.layers.drop import DropPath
from torch import nn

from t2tbuild import Spec, build_model, load_spec, load_weights, measure_cost, predict_cost, write_spec
from t2tbuild.cost.counter import count_model
from t2tbuild.spec import ModelSpec, catalog
from t2tbuild.spec.model import AnyModel
from t2tbuild.weights.export import Format, export_model, photographs

T2T = [
    {"patch_size": 7, "overlap": 3, "token_dim": 16, "attention": "performer"},
    {"patch_size": 3, "overlap": 1, "token_dim": 8, "attention": "transformer"},
    {"patch_size": 3, "overlap": 1},
]
TOKENIZERS: dict[str, dict[str, Any]] = {
    "t2t": {"kind": "t2t", "stages": T2T},
    "conv": {"kind": "conv", "stages": [{"patch_size": 7, "overlap": 3, "token_dim": 8}, {"patch_size": 3}]},
    "patch": {"kind": "patch", "patch_size": 16},
}
BACKBONES: dict[str, dict[str, Any]] = {
    "plain": {"kind": "plain", "depth": 3, "embed_dim": 32},
    "dense": {"kind": "dense", "blocks": [1, 2], "growth_rate": 16, "embed_dim": 32},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "squeeze_excite": {"squeeze_excite": {"reduction": 4}},
    "ghost": {"ghost": {}},
    "ghost attention": {"ghost": {"mlp": False}},
    "ghost mlp": {"ghost": {"attention": False}},
    "many heads": {"num_heads": 8},
    "head_dim": {"num_heads": None, "head_dim": 8},
    "heads per block": {"num_heads": [2, 4, 8]},
    "ratio per block": {"mlp_ratio": [1, 2, 4]},
    "ratio 5": {"mlp_ratio": 5},
    "qkv_bias": {"qkv_bias": True},
    "learned": {"position": "learned"},
    "drop_path": {"drop_path": 0.05},
    "layer_scale": {"layer_scale": 1e-5},
    "distillation_token": {"distillation_token": True},  # a field of the model, not of its backbone
}


def model(tokenizer: str, backbone: str, *options: str) -> ModelSpec:
    fields = BACKBONES[backbone] | {"num_heads": 2, "mlp_ratio": 3}
    for option in options:
        fields |= OPTIONS[option]
    token = fields.pop("distillation_token", False)
    return ModelSpec.model_validate(
        {
            "name": "random",
            "image_size": [48, 64],
            "num_classes": 7,
            "tokenizer": TOKENIZERS[tokenizer],
            "backbone": fields,
            "distillation_token": token,
        }
    )


def variants() -> Iterator[Any]:
    """Yield every tokenizer with every backbone, and every option once."""
    for tokenizer, backbone in itertools.product(TOKENIZERS, BACKBONES):
        yield pytest.param(model(tokenizer, backbone), id=f"{tokenizer}-{backbone}")
    for number, option in enumerate(OPTIONS):
        backbone = list(BACKBONES)[number % 2]
        yield pytest.param(model("t2t", backbone, option), id=f"{backbone}-{option}")


def pairs() -> Iterator[Any]:
    """Yield each pair of options that set different fields, with the tokenizers and backbones in turn."""
    for number, (first, second) in enumerate(itertools.combinations(OPTIONS, 2)):
        if set(OPTIONS[first]) & set(OPTIONS[second]):
            continue
        tokenizer = list(TOKENIZERS)[number % len(TOKENIZERS)]
        backbone = list(BACKBONES)[number // len(TOKENIZERS) % len(BACKBONES)]
        name = f"{tokenizer}-{backbone}-{first}-{second}"
        marks = [pytest.mark.slow, pytest.mark.nightly]
        yield pytest.param(model(tokenizer, backbone, first, second), id=name, marks=marks)


# With few blocks at 64 pixels to save time; tests/test_reference.py and test_cost.py use the models as they are.
SHIPPED = [pytest.param(shallow(name), id=name, marks=pytest.mark.slow) for name in DISTINCT]
SHIPPED += [
    pytest.param(load_spec(name, ["model.image_size=64"]).model, id=name, marks=pytest.mark.slow) for name in OTHERS
]


@pytest.mark.parametrize("spec", [*variants(), *pairs(), *SHIPPED])
def test_contract(spec: AnyModel, tmp_path: Path) -> None:
    """A model builds, is counted, runs forward and backward, is saved and loaded, and its spec is written and read."""
    torch.manual_seed(1)  # with 0, all channels of a squeeze-and-excitation are below zero
    built = build_model(spec)
    counted = measure_cost(built, (spec.in_chans, *spec.image))
    if isinstance(spec, ModelSpec):
        assert counted == predict_cost(spec)
    assert counted.params == sum(parameter.numel() for parameter in built.parameters())

    built.train()
    logits = built(photographs(spec, 2))
    assert logits.shape == (2, spec.num_classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, spec.num_classes - 1])).backward()
    check_gradients(built, spec)
    built.zero_grad(set_to_none=True)

    assert export_model(spec, built, tmp_path / "random.safetensors", Format.SAFETENSORS) == 0
    again = build_model(spec)
    load_weights(again, tmp_path / "random.safetensors")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in built.state_dict().items())

    write_spec(Spec(version=1, model=spec), tmp_path / "random.yaml")
    assert load_spec(tmp_path / "random.yaml").model == spec


def check_gradients(built: nn.Module, spec: AnyModel) -> None:
    """Every trainable parameter has a finite, nonzero gradient; frozen ones have none.

    The gradient of a key's bias is zero, since it adds the same to every logit of a query's softmax. timm initialises
    the residual branches of ResNets with zero.
    """
    for name, parameter in built.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            if isinstance(spec, ModelSpec) and not name.endswith("attn.k.bias"):
                assert parameter.grad.abs().max() > 0, name


EXPORTED = [
    model("t2t", "plain", "squeeze_excite", "learned"),
    model("t2t", "dense", "ghost", "qkv_bias"),
    model("conv", "dense", "distillation_token"),
    model("patch", "plain", "ghost attention"),
    model("conv", "plain", "ghost mlp", "heads per block"),
]
"""Every tokenizer, backbone and option that brings another kind of operation into the exported graph."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [pytest.param(one, id=f"{one.tokenizer.kind}-{one.backbone.kind}-{i}") for i, one in enumerate(EXPORTED)],
)
def test_export(spec: AnyModel, tmp_path: Path) -> None:
    """torch.export exports the whole model for any batch size, with the same logits."""
    built = build_model(spec).eval()
    assert export_model(spec, built, tmp_path / "random.pt2", Format.TORCH_EXPORT) <= 1e-5


SMALL = [model(tokenizer, backbone, "squeeze_excite", "ghost") for tokenizer in TOKENIZERS for backbone in BACKBONES]


@pytest.mark.parametrize("spec", SMALL)
def test_gradient_checkpointing_keeps_the_gradients(spec: ModelSpec) -> None:
    spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"drop_path": 0.3})})
    built, images = build_model(spec).train(), photographs(spec, 4)

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        built.set_grad_checkpointing(checkpointing)
        built.zero_grad()
        torch.manual_seed(3)  # dropout and drop path
        built(images).square().sum().backward()
        return {name: value.grad.clone() for name, value in built.named_parameters() if value.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_gradient_checkpointing_saves_fewer_tensors(small: ModelSpec) -> None:
    built, kept = build_model(small).train(), []
    for checkpointing in (False, True):
        built.set_grad_checkpointing(checkpointing)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):  # type: ignore[misc, func-returns-value]
            built(photographs(small, 2))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spec", SMALL)
def test_half_precision_stays_finite_with_large_inputs_and_weights(spec: ModelSpec, dtype: torch.dtype) -> None:
    """The released code can reach NaN in training; here the random features are computed in float32."""
    built = build_model(spec).train()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 2 and parameter.requires_grad:
                parameter.mul_(10)  # far larger than at initialisation
    with torch.autocast("cpu", dtype=dtype):
        logits = built(10 * photographs(spec, 4))
        loss = nn.functional.cross_entropy(logits.float(), torch.arange(4))
    assert torch.isfinite(logits).all()
    assert math.isfinite(loss.item())
    loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in built.parameters() if value.grad is not None)


@pytest.mark.parametrize("name", [name for name in catalog.names("specs") if "t2t" in name or "vit" in name])
def test_builds_on_the_meta_device_whatever_the_drop_path(name: str) -> None:
    spec = load_spec(name, ["model.backbone.drop_path=0.1"]).model
    with torch.device("meta"):
        built = build_model(spec)
    assert all(parameter.is_meta for parameter in built.parameters())
    rates = [module.drop_prob for module in built.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] == pytest.approx(0.1)


def test_a_seed_gives_the_same_weights() -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_model(model("t2t", "dense", "ghost", "squeeze_excite")).state_dict()

    first, second, other = state(1), state(1), state(2)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.slow
def test_large_models_of_every_tokenizer_are_counted() -> None:
    """T2T is counted on the meta device; patches and convolutions, which cannot be traced there, on the CPU."""
    for name in ("t2t_vit_t_24", "vit_s16", "t2t_vit_c_14"):
        spec = load_spec(name, ["model.image_size=256"]).model
        assert isinstance(spec, ModelSpec)
        assert count_model(spec) == predict_cost(spec)


@pytest.mark.slow
def test_every_kind_of_module_is_covered() -> None:
    """Without this, the tests above would pass with an empty catalog or a lost option."""
    names = {
        type(module).__name__ for param in [*variants(), *pairs()] for module in build_model(param.values[0]).modules()
    }  # type: ignore[arg-type]
    expected = {"SqueezeExcite", "GhostAttention", "GhostMlp", "DenseBlock", "Transition", "ConvTokenizer", "Attention"}
    assert expected <= names
    kinds = {type(param.values[0]).__name__ for param in SHIPPED}
    assert kinds == {"ModelSpec", "TimmModel"}
    assert {*OURS, *OTHERS, *DEEPER} == set(catalog.names("specs"))
