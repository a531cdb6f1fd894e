"""Predicted memory compared with what torch saves and allocates."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans
from random_specs import models
from torch import Tensor, nn

from t2tbuild import build_model, load_spec
from t2tbuild.bench.peak_memory import allocations, peak_memory, storage_bytes
from t2tbuild.bench.steps import inference_step, training_step
from t2tbuild.cost.memory import largest_batch, predict_memory
from t2tbuild.cost.peaks import inference_peak, saved_bytes, training_peak
from t2tbuild.dtype import Precision
from t2tbuild.modules import recompute_policy
from t2tbuild.spec import ModelSpec
from t2tbuild.symbolic.forward import Operation, Step, Value
from t2tbuild.symbolic.model import record

CPU = torch.device("cpu")
SPECS = ["t2t_vit_7", "t2t_vit_t_14", "t2t_vit_c_14", "t2t_vit_16_ghost", "t2t_vit_dense", "t2t_vit_14_se", "vit_s16"]
DISTILLED = "t2t_vit_7, distilled"
SCALED = "t2t_vit_7, layer scale"
SCRATCH = 1_500_000  # temporary bytes of the attention kernel on a CPU, for any batch


def small_one(name: str) -> ModelSpec:
    shape = [] if name == "t2t_vit_dense" else ["model.backbone.depth=3"]
    shape += ["model.distillation_token=true"] if name == DISTILLED else []
    shape += ["model.backbone.layer_scale=0.1", "model.backbone.drop_path=0.1"] if name == SCALED else []
    model = load_spec(name.partition(",")[0], ["model.image_size=96", "model.num_classes=10", *shape]).model
    assert isinstance(model, ModelSpec)
    return model


@pytest.fixture
def recompute_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training recomputes tensors of any size."""
    monkeypatch.setattr(recompute_policy, "RECOMPUTE_THRESHOLD", 0)


def batch_of(model: ModelSpec, number: int) -> tuple[Tensor, Tensor]:
    return torch.randn(number, model.in_chans, *model.image), torch.arange(number) % model.num_classes


def saved_by_autograd(model: ModelSpec, number: int) -> int:
    """Return the bytes that a forward pass leaves alive, without the loss itself."""
    built = build_model(model).train()
    images, labels = batch_of(model, number)
    losses = [F.cross_entropy(built(images), labels)]
    left = sum(allocations(lambda: losses.append(F.cross_entropy(built(images), labels))))
    return left - losses[-1].nbytes


def peaks(model: ModelSpec, number: int, precision: Precision) -> tuple[int, int]:
    """Return the peak bytes of an inference step and of a training step, including weights and images."""
    built: nn.Module = build_model(model)
    images, labels = batch_of(model, number)
    dtype: torch.dtype = getattr(torch, precision)
    constant = storage_bytes([*built.parameters(), images])
    inference = peak_memory(inference_step(built, images, dtype), CPU)
    trained = [parameter for parameter in built.parameters() if parameter.requires_grad]
    training = peak_memory(training_step(built, images, labels, torch.optim.AdamW(trained), dtype), CPU)
    return constant + inference, constant + training


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.nightly), 6])
@pytest.mark.parametrize("name", [*SPECS, DISTILLED, SCALED])
def test_peaks_are_those_that_torch_allocates(name: str, number: int) -> None:
    """Batches on both sides of the recomputation threshold."""
    check_peaks(name, number, Precision.FLOAT32)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.usefixtures("recompute_everything")
@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
@pytest.mark.parametrize("name", ["t2t_vit_7", "t2t_vit_dense", SCALED])
def test_peaks_with_recomputation_of_all_sizes(name: str, precision: Precision) -> None:
    check_peaks(name, 1, precision)  # CPUs without bfloat16 are slow in it


def check_peaks(name: str, number: int, precision: Precision) -> None:
    model = small_one(name)
    predicted, (inference, training) = predict_memory(model, number, precision), peaks(model, number, precision)
    assert predicted.inference == pytest.approx(inference, rel=0.02, abs=SCRATCH)
    assert predicted.training == pytest.approx(training, rel=0.02, abs=SCRATCH)


@pytest.mark.parametrize("name", [*SPECS, DISTILLED, SCALED])
def test_activations_are_what_autograd_saves(name: str) -> None:
    model = small_one(name)
    assert predict_memory(model, 3).activations == pytest.approx(saved_by_autograd(model, 3), rel=0.001)


@pytest.mark.usefixtures("recompute_everything")
@pytest.mark.parametrize("name", [*SPECS, DISTILLED, SCALED])
def test_activations_with_recomputation_of_all_sizes(name: str) -> None:
    model = small_one(name)
    assert predict_memory(model, 3).activations == pytest.approx(saved_by_autograd(model, 3), rel=0.001)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(models(), booleans())
def test_activations_of_any_spec_are_what_autograd_saves(model: ModelSpec, recompute: bool) -> None:
    """Up to the size of the batch: for patches that do not overlap, torch may save a copy of the feature map."""
    with pytest.MonkeyPatch.context() as patch:
        if recompute:
            patch.setattr(recompute_policy, "RECOMPUTE_THRESHOLD", 0)
        check_activations(model)


def check_activations(model: ModelSpec) -> None:
    channels = max(model.tokenizer.channels_below(model.in_chans))
    slack = 4 * 4 * channels * model.image.tokens + 1000
    assert predict_memory(model, 4).activations == pytest.approx(saved_by_autograd(model, 4), rel=0.01, abs=slack)


def test_a_block_by_hand() -> None:
    """One more block of small tensors saves N C (8 + 2 r) elements.

    Also four statistics per token, and a sum of the softmax per head and token.
    """
    small, deep = (
        ModelSpec.model_validate(
            {
                "name": "x",
                "image_size": 32,
                "num_classes": 10,
                "tokenizer": {"kind": "patch", "patch_size": 8},
                "backbone": {"depth": depth, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 3},
            }
        )
        for depth in (2, 3)
    )
    tokens, dim = 17, 32
    block = tokens * dim * (8 + 2 * 3) + 4 * tokens + 2 * tokens
    more = predict_memory(deep, 5).activations - predict_memory(small, 5).activations
    assert more == 5 * 4 * block
    assert predict_memory(deep).inference - predict_memory(deep).parameters == 4 * (
        3 * 32 * 32 + tokens * dim * (3 + 2 * 3)
    )
    params = predict_memory(deep).parameters - predict_memory(small).parameters
    assert params == 4 * (10 * dim * dim + 2 * 2 * dim + 5 * dim)


@pytest.mark.usefixtures("recompute_everything")
def test_a_large_block_by_hand() -> None:
    """N C (6 + r) elements: without the outputs of the norms and of GELU."""
    model = load_spec("vit_s16").model
    assert isinstance(model, ModelSpec)
    deeper = load_spec("vit_s16", [f"model.backbone.depth={model.backbone.depth + 1}"]).model
    assert isinstance(deeper, ModelSpec)
    dim, heads, tokens = model.backbone.embed_dim, model.backbone.heads[0], model.tokens
    ratio = model.backbone.mlp_dims[0] / dim
    more = predict_memory(deeper, 2).activations - predict_memory(model, 2).activations
    assert more == 2 * 4 * (tokens * dim * (6 + ratio) + 4 * tokens + heads * tokens)


def test_steps_by_hand() -> None:
    """x -> a (saves x) -> b (saves a), then a and x are freed: 40 bytes, then 100, then 60 and their gradients."""
    x, a, b = Value(40, needs_grad=False), Value(100), Value(60)
    steps: list[Step] = [
        Operation("make", "", [], [x]),
        Operation("linear", "", [x], [a], [x], trained=2),
        x,
        Operation("linear", "", [a], [b], [a], trained=1, scratch=5),
        a,
        b,
    ]
    assert inference_peak(steps) == 100 + 60 + 5
    assert saved_bytes(steps) == 40 + 100
    # Forward ends with x and a; backward of b: its gradient of 60 comes from outside, that of a is new, and b's own.
    assert training_peak(steps) == 40 + 100 + 100 + 4 + 5


def test_half_precision_saves_less_and_weights_dominate_small_batches() -> None:
    model = small_one("t2t_vit_7")
    full, half = (predict_memory(model, 32, precision) for precision in (Precision.FLOAT32, Precision.BFLOAT16))
    assert half.activations < full.activations
    assert half.parameters == full.parameters
    one = predict_memory(load_spec("vit_s16", ["model.image_size=32"]).model, 1)  # type: ignore[arg-type]
    assert one.training > one.parameters + one.gradients + one.optimizer


@pytest.mark.parametrize("training", [False, True])
def test_the_largest_batch_fits_and_one_more_does_not(training: bool) -> None:
    model, field = small_one("t2t_vit_7"), "training" if training else "inference"
    most = largest_batch(model, 10**9, Precision.FLOAT32, training=training)
    assert most is not None
    assert getattr(predict_memory(model, most), field) <= 10**9 < getattr(predict_memory(model, most + 1), field)
    assert largest_batch(model, 10**6, Precision.FLOAT32, training=training) is None


def test_steps_read_no_image_beyond_their_batch() -> None:
    model = small_one("t2t_vit_7")
    one, eight = (record(model, n, training=False) for n in (1, 8))
    assert _macs(one.steps) == _macs(eight.steps)


def _macs(steps: list[Step]) -> int:
    return sum(step.macs for step in steps if isinstance(step, Operation))
