"""The roofline: FLOPs compared with the closed form, bytes with those that torch's kernels read and write."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from t2tbuild import build_model, load_spec, predict_cost
from t2tbuild.cost.roofline import Device, predict_roofline
from t2tbuild.dtype import Precision
from t2tbuild.spec import ModelSpec

SPECS = ["t2t_vit_7", "t2t_vit_t_14", "t2t_vit_c_14", "t2t_vit_16_ghost", "t2t_vit_dense", "vit_s16"]


class Moved(TorchDispatchMode):
    """Sums the bytes that each kernel reads and writes; views count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if not view and func._schema.name != "aten::_unsafe_view":
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def small_one(name: str) -> ModelSpec:
    model = load_spec(name, ["model.image_size=96"]).model
    assert isinstance(model, ModelSpec)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param(Precision.FLOAT32, marks=pytest.mark.nightly), Precision.BFLOAT16])
@pytest.mark.parametrize("name", SPECS)
def test_bytes_are_those_that_kernels_move(name: str, precision: Precision) -> None:
    model = small_one(name)
    built, images = build_model(model).eval(), torch.randn(4, 3, 96, 96)
    half = precision is not Precision.FLOAT32
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half), Moved() as measured:
        built(images)
    predicted = predict_roofline(model, Device(1e12, 1e11), 4, precision)
    assert predicted.moved == pytest.approx(measured.total, rel=0.03)


@pytest.mark.parametrize("name", SPECS)
def test_flops_are_two_for_each_multiply_add_but_norms(name: str) -> None:
    model = small_one(name)
    cost = predict_cost(model, 99)

    def norms(parts: Any) -> int:
        return sum(part.macs if "norm" in part.name else norms(part.parts) for part in parts)

    assert predict_roofline(model, Device(1e12, 1e11)).flops == pytest.approx(
        2 * (cost.macs - norms(cost.parts)), rel=1e-3
    )


def test_a_device_without_a_limit_leaves_the_other() -> None:
    model = small_one("t2t_vit_14")
    slow = predict_roofline(model, Device(flops=1e12, bandwidth=1e30), 2)
    assert slow.seconds == pytest.approx(slow.flops / 1e12)
    assert slow.memory_bound < 1e-9
    narrow = predict_roofline(model, Device(flops=1e30, bandwidth=1e11), 2)
    assert narrow.seconds == pytest.approx(narrow.moved / 1e11)
    assert narrow.memory_bound == pytest.approx(1)
    assert narrow.intensity == narrow.flops / narrow.moved


def test_larger_batches_have_more_work_for_each_byte_of_weights() -> None:
    model, device = small_one("t2t_vit_14"), Device(1e14, 1e12)
    one, many = (predict_roofline(model, device, number) for number in (1, 64))
    assert many.intensity > one.intensity
    assert one.seconds < many.seconds < 64 * one.seconds
