"""Export a trained model as safetensors, a timm folder, a torch.export program or ONNX."""

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
from t2tbuild.spec.extension.registry import source_names
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.spec.weights import LOCAL_DIR
from t2tbuild.weights.formats import Format
from t2tbuild.weights.label_names import LABEL_NAMES, label_metadata
from t2tbuild.weights.load import load_weights
from t2tbuild.weights.read import position_metadata

TOLERANCE = 1e-4  # largest difference between the logits of torch and of the exported model, over the largest logit
BATCH_SIZES = (1, 2, 5)  # of the comparison

Run = Callable[[Tensor], Tensor]


def export_model(model: AnyModel, built: nn.Module, out: str | Path, kind: Format) -> float:
    """Write a built model to `out`; return the largest difference of its logits from torch's, over the largest logit.

    safetensors: the weights with the released code's names. timm: a folder that timm.create_model("local-dir:...")
    loads after `import t2tbuild.timm`. torch-export (.pt2) and onnx: the whole model, for any batch size. The written
    files are loaded again and compared with torch on scikit-learn's two photographs, in batches of 1, 2 and 5; they are
    moved to `out` only if the logits agree.

    Raises InputError if `out` cannot be written or a package is missing, and ExportError if the exported model returns
    other logits.
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
            difference = _compare_logits(model, built, write(built, written, model))
            if path.is_dir():
                for file in written.iterdir():
                    file.replace(path / file.name)
            else:
                written.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return difference


def photographs(model: AnyModel, batch: int) -> Tensor:
    """Return normalised crops of scikit-learn's two photographs: [batch, in_chans, height, width]."""
    from sklearn.datasets import load_sample_images

    loaded = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    images = loaded.permute(0, 3, 1, 2).float() / 255
    if model.in_chans != images.shape[1]:
        images = images.mean(dim=1, keepdim=True).expand(-1, model.in_chans, -1, -1)
    resized = F.interpolate(images, size=tuple(model.image), mode="bilinear", align_corners=False)
    normalised = (resized - resized.mean()) / resized.std()
    return torch.cat([normalised.roll(shift, dims=3) for shift in range(-(-batch // 2))])[:batch].contiguous()


def _save_safetensors(built: nn.Module, path: Path, model: AnyModel) -> Run:
    metadata = {"format": "pt", "model": model.name} | position_metadata(built) | label_metadata(model.label_names)
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, path, metadata)
    reloaded = build_model(model)
    load_weights(reloaded, path)
    return reloaded.eval()


def timm_config(model: AnyModel, built: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> str:
    """Return the text of config.json, which timm's local-dir needs besides the weights of a built model.

    `mean` and `std` are those of the images' normalisation, one value per channel.
    """
    from timm.models._hub import save_config_for_hf

    args: dict[str, Any] = {}
    if isinstance(model, ModelSpec):
        import timm

        import t2tbuild.timm

        args = {"spec": _dump_without_names(model)}
        built = timm.create_model(t2tbuild.timm.ANY, num_classes=model.num_classes, device="meta", **args)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        data_config = {"mean": tuple(mean), "std": tuple(std)}
        save_config_for_hf(
            built, str(file), model_config=_label_config(model), model_args=args, data_config=data_config
        )
        return file.read_text()


def _label_config(model: AnyModel) -> dict[str, Any]:
    """Return the names of the classes under timm's key, if there are any."""
    return {} if model.label_names is None else {LABEL_NAMES: list(model.label_names)}


def _dump_without_names(model: ModelSpec) -> dict[str, Any]:
    """Return a model as plain data without the names of its classes, which have a key of their own in timm's config.

    The names of the files of its extensions are data for the message of a process that has not loaded them.
    """
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude={LABEL_NAMES})
    names = source_names(model)
    return dumped | ({"extensions": names} if names else {})


def _save_timm(built: nn.Module, path: Path, model: AnyModel) -> Run:
    import timm
    from timm.models import save_for_hf

    import t2tbuild.timm

    args: dict[str, Any]
    if isinstance(model, ModelSpec):
        args = {"spec": _dump_without_names(model)}
        registered = timm.create_model(t2tbuild.timm.ANY, num_classes=model.num_classes, **args)
        registered.load_state_dict(built.state_dict())
        built = registered
    else:
        args = dict(model.args)
    save_for_hf(built, str(path), model_config=_label_config(model), model_args=args, safe_serialization=True)
    return timm.create_model(f"{LOCAL_DIR}{path}", pretrained=True).eval()


def _save_torch_export(built: nn.Module, path: Path, model: AnyModel) -> Run:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(built, (photographs(model, 2),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, extra_files=label_metadata(model.label_names))
    return torch.export.load(path).module()


def _save_onnx(built: nn.Module, path: Path, model: AnyModel) -> Run:
    import onnxruntime

    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.onnx.export(
            built,
            (photographs(model, 2),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            optimize=False,  # its rewriter treats 1e-8, the Performer's epsilon, as zero and removes it
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(label_metadata(model.label_names))
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _compare_logits(model: AnyModel, built: nn.Module, exported: Run) -> float:
    """Return the largest difference of the logits over the largest logit, for each of BATCH_SIZES."""
    largest = 0.0
    with torch.inference_mode():
        for size in BATCH_SIZES:
            images = photographs(model, size)
            expected, actual = built(images), exported(images)
            if actual.shape != expected.shape:
                raise ExportError(
                    f"the exported {model.name} returns logits {list(actual.shape)}, torch {list(expected.shape)}"
                )
            difference = ((actual - expected).abs().max() / expected.abs().max()).item()
            if not difference <= TOLERANCE:  # also for NaN
                raise ExportError(
                    f"the exported {model.name} returns other logits than torch: relative difference {difference:.1e}, "
                    f"at most {TOLERANCE:g} is allowed"
                )
            largest = max(largest, difference)
    return largest
