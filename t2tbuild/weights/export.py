"""A trained model as a file that others read: safetensors, a timm folder, torch.export or ONNX."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import ExportError, InputError
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.spec.weights import LOCAL_DIR
from t2tbuild.weights.formats import Format
from t2tbuild.weights.load import load_weights
from t2tbuild.weights.read import position_metadata

TOLERANCE = 1e-4  # largest difference of logits between torch and the exported model, over the largest logit
BATCHES = (1, 2, 5)  # that an exported model is checked with

Run = Callable[[Tensor], Tensor]


def export_model(model: AnyModel, built: nn.Module, out: str | Path, kind: Format) -> float:
    """Write a built model to `out`; gives the largest difference of its logits to torch's, over the largest logit.

    safetensors: the weights under the released code's names. timm: a folder that timm.create_model("local-dir:...")
    loads after `import t2tbuild.timm`. torch-export (.pt2), onnx: the whole model, with a batch of any size. What was
    written is loaded again, run on two photographs that come with scikit-learn in batches of 1, 2 and 5, and held
    against torch; only then does it take its place at `out`.

    Raises InputError when `out` cannot be written or a package is missing, and ExportError when the exported model
    gives other logits.
    """
    path = Path(out).resolve()
    kind.require(path)
    built.eval()
    write = {
        Format.SAFETENSORS: _save_safetensors,
        Format.TIMM: _save_timm,
        Format.TORCH_EXPORT: _save_torch_export,
        Format.ONNX: _save_onnx,
    }[kind]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".export-") as beside:
            written = Path(beside) / path.name
            difference = _difference(model, built, write(built, written, model))
            if path.is_dir():
                for file in written.iterdir():
                    file.replace(path / file.name)
            else:
                written.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return difference


def photographs(model: AnyModel, batch: int) -> Tensor:
    """[batch, in_chans, height, width]: crops of scikit-learn's two photographs, normalised, as real input."""
    from sklearn.datasets import load_sample_images

    pictures = torch.stack([torch.from_numpy(picture.copy()) for picture in load_sample_images().images])
    gray_or_rgb = pictures.permute(0, 3, 1, 2).float() / 255
    if model.in_chans != gray_or_rgb.shape[1]:
        gray_or_rgb = gray_or_rgb.mean(dim=1, keepdim=True).expand(-1, model.in_chans, -1, -1)
    sized = F.interpolate(gray_or_rgb, size=tuple(model.image), mode="bilinear", align_corners=False)
    normalised = (sized - sized.mean()) / sized.std()
    return torch.cat([normalised.roll(shift, dims=3) for shift in range(-(-batch // 2))])[:batch].contiguous()


def _save_safetensors(built: nn.Module, path: Path, model: AnyModel) -> Run:
    metadata = {"format": "pt", "model": model.name} | position_metadata(built)
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, path, metadata)
    again = build_model(model)
    load_weights(again, path)
    return again.eval()


def timm_config(model: AnyModel, built: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> str:
    """What timm's local-dir wants to know of a built model beside its weights, as the text of config.json.

    `mean` and `std` are those by which its images were normalised, one a channel.
    """
    from timm.models._hub import save_config_for_hf

    args: dict[str, Any] = {}
    if isinstance(model, ModelSpec):
        import timm

        import t2tbuild.timm

        args = {"spec": model.model_dump(mode="json")}
        built = timm.create_model(t2tbuild.timm.ANY, num_classes=model.num_classes, device="meta", **args)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        save_config_for_hf(built, str(file), model_args=args, data_config={"mean": tuple(mean), "std": tuple(std)})
        return file.read_text()


def _save_timm(built: nn.Module, path: Path, model: AnyModel) -> Run:
    import timm
    from timm.models._hub import save_for_hf

    import t2tbuild.timm

    args: dict[str, Any]
    if isinstance(model, ModelSpec):
        args = {"spec": model.model_dump(mode="json")}
        timms = timm.create_model(t2tbuild.timm.ANY, num_classes=model.num_classes, **args)
        timms.load_state_dict(built.state_dict())
        built = timms
    else:
        args = dict(model.args)
    save_for_hf(built, str(path), model_args=args, safe_serialization=True)
    return timm.create_model(f"{LOCAL_DIR}{path}", pretrained=True).eval()


def _save_torch_export(built: nn.Module, path: Path, model: AnyModel) -> Run:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(built, (photographs(model, 2),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return torch.export.load(path).module()


def _save_onnx(built: nn.Module, path: Path, model: AnyModel) -> Run:
    import onnxruntime

    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        torch.onnx.export(
            built,
            (photographs(model, 2),),
            path,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            optimize=False,  # its rewriter takes 1e-8, the Performer's epsilon, for a zero and drops it
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _difference(model: AnyModel, built: nn.Module, exported: Run) -> float:
    """The largest difference of logits over the largest logit, in batches of several sizes."""
    worst = 0.0
    with torch.inference_mode():
        for size in BATCHES:
            images = photographs(model, size)
            wanted, got = built(images), exported(images)
            if got.shape != wanted.shape:
                raise ExportError(f"the exported {model.name} gives {list(got.shape)}, torch {list(wanted.shape)}")
            off = ((got - wanted).abs().max() / wanted.abs().max()).item()
            if not off <= TOLERANCE:  # NaN is not
                raise ExportError(
                    f"the exported {model.name} gives other logits than torch, off by {off:.1e}, relative"
                )
            worst = max(worst, off)
    return worst
