"""Exported models are loaded by other libraries and give the model's logits."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

import t2tbuild.timm  # noqa: F401
from t2tbuild import build_model, load_weights
from t2tbuild.errors import ExportError, InputError
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.model import TimmModel
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.weights.export import Format, export_model, photographs
from t2tbuild.weights.label_names import read_label_names

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

pytestmark = pytest.mark.slow

CONV = {"kind": "conv", "stages": [{"patch_size": 7, "overlap": 3, "token_dim": 8}, {"patch_size": 3, "overlap": 1}]}
OPTIONS = {"squeeze_excite": {"reduction": 4}, "ghost": {}, "mlp_ratio": 3}


@pytest.fixture(params=["t2t", "conv, dense", "rectangle, one channel", "distilled"])
def spec(request: pytest.FixtureRequest, small: ModelSpec) -> ModelSpec:
    data = small.model_dump()
    if request.param == "conv, dense":
        dense = {"kind": "dense", "blocks": [1, 2], "growth_rate": 16, "embed_dim": 32, "num_heads": 2}
        data |= {"tokenizer": CONV, "backbone": dense | OPTIONS}
    if request.param == "rectangle, one channel":
        data |= {"image_size": [32, 48], "in_chans": 1}
    if request.param == "distilled":
        data |= {"distillation_token": True}
    return ModelSpec.model_validate(data)


@pytest.fixture
def trained(spec: ModelSpec) -> nn.Module:
    """Weights far from the initialisation, so that the Performer's denominators fall below its epsilon of 1e-8."""
    torch.manual_seed(1)
    model = build_model(spec)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim == 2:
            parameter.data.normal_(std=0.3)
    if spec.distillation_token:
        model.set_distilled_training()  # exported models return the mean of the heads all the same
    return model.eval()


def test_onnx_runs_elsewhere_with_any_batch(spec: ModelSpec, trained: nn.Module, tmp_path: Path) -> None:
    assert export_model(spec, trained, tmp_path / "model.onnx", Format.ONNX) <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch in (1, 3, 7):
        images = photographs(spec, batch)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        with torch.inference_mode():
            torch.testing.assert_close(torch.from_numpy(logits), trained(images), rtol=1e-4, atol=1e-4)


def test_every_format_has_the_names_of_the_classes(small: ModelSpec, tmp_path: Path) -> None:
    names = ("cat", "dog", "hibou à l'œil")
    named = with_changes(small, {"num_classes": 3, "label_names": names}, "a test")
    for kind in Format:
        export_model(named, build_model(named), tmp_path / f"model{kind.suffix}", kind)
    assert read_label_names(tmp_path / "model.safetensors") == names
    assert read_label_names(tmp_path / "model") == names
    again = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    assert tuple(again.pretrained_cfg["label_names"]) == names
    assert timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True, num_classes=5).num_classes == 5
    extra = {"label_names": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for text in (extra["label_names"], session.get_modelmeta().custom_metadata_map["label_names"]):
        assert tuple(json.loads(text)) == names


def test_torch_export_is_loaded_without_our_code(small: ModelSpec, tmp_path: Path) -> None:
    """For one model; tests/test_contract.py exports every structure."""
    model = build_model(small).eval()
    assert export_model(small, model, tmp_path / "model.pt2", Format.TORCH_EXPORT) <= 1e-5
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    images = photographs(small, 3)
    torch.testing.assert_close(loaded(images), model(images), rtol=1e-4, atol=1e-4)


def test_a_timm_folder_is_created_by_timm(spec: ModelSpec, trained: nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert export_model(spec, trained, folder, Format.TIMM) == 0
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = photographs(spec, 2)
    assert torch.equal(again(images), trained(images))
    assert again.pretrained_cfg["input_size"] == (spec.in_chans, *spec.image)

    features = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True, out_indices=[0, -1])
    assert [map_.shape[1] for map_ in features(images)] == features.feature_info.channels()
    three = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3).eval()
    assert three(images).shape == (2, 3)
    assert torch.equal(three.forward_features(images), trained.forward_features(images))  # type: ignore[operator]

    back = build_model(spec).eval()
    load_weights(back, f"local-dir:{folder}")
    assert torch.equal(back(images), trained(images))


@pytest.mark.parametrize("token", [False, True])
def test_a_timm_folder_at_another_image_size(small: ModelSpec, tmp_path: Path, token: bool) -> None:
    small = small.model_copy(update={"distillation_token": token})
    model = build_model(small).eval()
    export_model(small, model, tmp_path / "folder", Format.TIMM)
    larger = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, img_size=64).eval()
    model.set_input_size(64)
    images = photographs(small.model_copy(update={"image_size": 64}), 2)
    assert torch.equal(larger(images), model(images))


def test_other_channels_are_refused(small: ModelSpec, tmp_path: Path) -> None:
    export_model(small, build_model(small), tmp_path / "folder", Format.TIMM)
    with pytest.raises(InputError, match="another number of channels"):
        timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, in_chans=1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Format.ONNX, "m.onnx"),
        (Format.TIMM, "m"),
        (Format.SAFETENSORS, "m.safetensors"),
        (Format.TORCH_EXPORT, "m.pt2"),
    ],
)
def test_models_of_timm_are_exported_too(kind: Format, name: str, tmp_path: Path) -> None:
    spec = TimmModel(kind="timm", name="resnet18", image_size=64, num_classes=5)
    torch.manual_seed(0)
    assert export_model(spec, build_model(spec), tmp_path / name, kind) <= 1e-5


def test_a_failed_export_leaves_the_old_file(small: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_model(small, build_model(small), tmp_path / "model.pt2", Format.TORCH_EXPORT)
    before = (tmp_path / "model.pt2").read_bytes()
    load = torch.export.load

    def off(path: Path, **options: Any) -> Any:
        loaded = load(path, **options)
        loaded.state_dict["head.bias"].data += 1
        return loaded

    monkeypatch.setattr(torch.export, "load", off)
    with pytest.raises(ExportError, match="other logits than torch"):
        export_model(small, build_model(small), tmp_path / "model.pt2", Format.TORCH_EXPORT)
    assert (tmp_path / "model.pt2").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_output_paths_that_cannot_be_written(small: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(small)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    (tmp_path / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "mine")
    for out in (tmp_path / "mine", Path()):
        with pytest.raises(InputError, match=r"holds thesis\.txt; name a new folder or an exported one"):
            export_model(small, model, out, Format.TIMM)
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(InputError, match="is a folder; --format onnx writes a file"):
        export_model(small, model, tmp_path / "m.onnx", Format.ONNX)
    with pytest.raises(InputError, match=r"must end in .onnx"):
        export_model(small, model, tmp_path / "model.pt", Format.ONNX)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export_model(small, model, tmp_path / "file" / "model.safetensors", Format.SAFETENSORS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"needs onnx, onnxscript, onnxruntime: pip install 't2tbuild\[onnx\]'"):
        export_model(small, model, tmp_path / "model.onnx", Format.ONNX)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "irreplaceable"


def test_an_export_with_nan_logits_is_refused(
    small: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.export.load

    def broken(path: Path, **options: Any) -> Any:
        load(path, **options)
        return SimpleNamespace(module=lambda: lambda images: torch.full((len(images), 10), torch.nan))

    monkeypatch.setattr(torch.export, "load", broken)
    with pytest.raises(ExportError, match="nan"):
        export_model(small, build_model(small), tmp_path / "model.pt2", Format.TORCH_EXPORT)
    assert list(tmp_path.iterdir()) == []


def test_an_exported_folder_may_be_written_again(small: ModelSpec, tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = build_model(small).eval()
        export_model(small, model, tmp_path / "folder", Format.TIMM)
    again = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    assert torch.equal(again(photographs(small, 2)), model(photographs(small, 2)))


def test_photographs_are_real_and_differ() -> None:
    images = photographs(TimmModel(kind="timm", name="resnet18", image_size=(64, 96)), 5)
    assert images.shape == (5, 3, 64, 96)
    assert images.flatten(1).std(dim=1).min() > 0.5
    assert len({image.sum().item() for image in images[:2]}) == 2
