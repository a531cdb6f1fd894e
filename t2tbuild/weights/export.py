"""Export a trained model as safetensors, a timm folder, a torch.export program or ONNX."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import ExportError, InputError
from t2tbuild.spec.extension.registry import source_names
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.spec.weights import LOCAL_DIR, WEIGHT_FILES
from t2tbuild.weights.exported import ExportedModel, open_exported
from t2tbuild.weights.formats import OPENVINO_WEIGHTS, Format
from t2tbuild.weights.label_names import LABEL_NAMES, label_metadata
from t2tbuild.weights.load import load_weights
from t2tbuild.weights.metadata import ExportInfo, ExportPrecision
from t2tbuild.weights.normalized import OnNormalized
from t2tbuild.weights.preprocessing import OWN_STEPS, Array, Preprocessing, default_preprocessing
from t2tbuild.weights.read import position_metadata
from t2tbuild.weights.whole_model import HalfModel, Int8, LogitsFunction, save_onnx, save_openvino, save_torch_export

TOLERANCE: dict[ExportPrecision, float] = {"float32": 1e-4, "float16": 2e-2, "int8": math.inf}
"""Largest difference between the logits of torch and of the exported model, over the largest logit. Of 8-bit integers
the accuracy is checked instead."""
TOLERANCE_INSIDE = 2e-2
"""That of a graph with its preprocessing inside, where a few pixels differ by one level."""
BATCH_SIZES = (1, 2, 5)  # of the comparison


def export_model(
    model: AnyModel,
    built: nn.Module,
    out: str | Path,
    kind: Format,
    *,
    preprocessing: Preprocessing | None = None,
    half: bool = False,
    int8: Int8 | None = None,
) -> float:
    """Write a built model to `out`; return the largest difference of its logits from torch's, over the largest logit.

    safetensors: the weights with the released code's names. timm: a folder that timm.create_model("local-dir:...")
    loads after `import t2tbuild.timm`. torch-export (.pt2), onnx and openvino (.xml and .bin): the whole model, for any
    batch size, with the metadata of `t2tbuild.weights.metadata`. The written files are loaded again and compared with
    torch on scikit-learn's two photographs, in batches of 1, 2 and 5; they are moved to `out` only if the logits agree,
    and the check of `int8` accepts them.

    Args:
        model: The node of the spec.
        built: The built model with its weights.
        out: The file to write; for timm, a folder.
        kind: The format.
        preprocessing: How an image becomes the input; left out, `default_preprocessing`. Where it is `inside`, the
            graph does it and takes bytes [batch, height, width, in_chans].
        half: Whether weights and arithmetic are float16, except for the Performer's features. Input and output stay
            float32.
        int8: Quantize to 8-bit integers; for onnx and openvino.

    Raises InputError if `out` cannot be written or a package is missing, and ExportError if the exported model returns
    other logits.
    """
    path = Path(out).resolve()
    kind.require(path)
    built.eval()
    config = getattr(built, "pretrained_cfg", None)
    steps = preprocessing or default_preprocessing(model, config if isinstance(config, dict) else None)
    info = ExportInfo(
        name=model.name,
        label_names=model.label_names,
        preprocessing=steps,
        precision="int8" if int8 is not None else "float16" if half else "float32",
        spec=model.model_dump(mode="json", exclude={LABEL_NAMES}),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".export-") as beside:
            written = Path(beside) / path.name
            run = _write(kind, built, written, model, info, int8)
            difference = _compare_logits(info, built, run)
            if int8 is not None:
                assert isinstance(run, ExportedModel)
                int8.check(OnNormalized(run))
            _move(written, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    return difference


def _write(
    kind: Format, built: nn.Module, path: Path, model: AnyModel, info: ExportInfo, int8: Int8 | None
) -> LogitsFunction:
    """Write a model and return the function that its file gives, loaded again."""
    if kind is Format.SAFETENSORS:
        return _as_run(_save_safetensors(built, path, model))
    if kind is Format.TIMM:
        return _as_run(_save_timm(built, path, model, info.preprocessing))
    whole = HalfModel(built).eval() if info.precision == "float16" else built
    if kind is Format.TORCH_EXPORT:
        save_torch_export(whole, path, info)
    elif kind is Format.ONNX:
        save_onnx(whole, path, info, int8)
    else:
        save_openvino(whole, path, info, int8)
    return open_exported(path)


def _move(written: Path, path: Path) -> None:
    """Move what was written to its place: a folder file by file, OpenVINO's weights before the file that names them."""
    if path.is_dir():
        for file in written.iterdir():
            file.replace(path / file.name)
        return
    weights = written.with_suffix(OPENVINO_WEIGHTS)
    if weights != written and weights.exists():
        weights.replace(path.with_suffix(OPENVINO_WEIGHTS))
    written.replace(path)


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


def _save_safetensors(built: nn.Module, path: Path, model: AnyModel) -> nn.Module:
    metadata = {"format": "pt", "model": model.name} | position_metadata(built) | label_metadata(model.label_names)
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, path, metadata)
    reloaded = build_model(model)
    load_weights(reloaded, path)
    return reloaded.eval()


def timm_config(model: AnyModel, built: nn.Module, steps: Preprocessing) -> str:
    """Return the text of config.json, which timm's local-dir needs besides the weights of a built model.

    `steps` is the preprocessing of the images; `timm.data.resolve_model_data_config` reads it back.
    """
    from timm.models._hub import save_config_for_hf

    args: dict[str, Any]
    if isinstance(model, ModelSpec):
        import timm

        import t2tbuild.timm

        args = {"spec": _dump_without_names(model)}
        built = timm.create_model(t2tbuild.timm.ANY, num_classes=model.num_classes, device="meta", **args)
    else:
        args = dict(model.args)
    data_config = {
        "mean": steps.mean,
        "std": steps.std,
        "crop_pct": steps.crop_pct,
        "interpolation": steps.interpolation,
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        save_config_for_hf(
            built, str(file), model_config=_own_config(model, steps), model_args=args, data_config=data_config
        )
        return file.read_text()


def _own_config(model: AnyModel, steps: Preprocessing) -> dict[str, Any]:
    """Return the names of the classes under timm's key, and the steps that timm does not know, if any."""
    names = {} if model.label_names is None else {LABEL_NAMES: list(model.label_names)}
    return names | ({} if steps.shrink is None else {OWN_STEPS: {"shrink": steps.shrink, "gray": steps.gray}})


def _dump_without_names(model: ModelSpec) -> dict[str, Any]:
    """Return a model as plain data without the names of its classes, which have a key of their own in timm's config.

    The names of the files of its extensions are data for the message of a process that has not loaded them.
    """
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude={LABEL_NAMES})
    names = source_names(model)
    return dumped | ({"extensions": names} if names else {})


def _save_timm(built: nn.Module, path: Path, model: AnyModel, steps: Preprocessing) -> nn.Module:
    import timm

    import t2tbuild.timm  # noqa: F401 - registers our models

    path.mkdir()
    save_file(
        {key: value.contiguous() for key, value in built.state_dict().items()}, path / WEIGHT_FILES[0], {"format": "pt"}
    )
    (path / "config.json").write_text(timm_config(model, built, steps))
    loaded: nn.Module = timm.create_model(f"{LOCAL_DIR}{path}", pretrained=True)
    return loaded.eval()


def _as_run(module: nn.Module) -> LogitsFunction:
    """Return a module as a function of arrays."""

    def run(images: Array) -> Array:
        logits: Array = module(torch.from_numpy(images)).numpy()
        return logits

    return run


def _compare_logits(info: ExportInfo, built: nn.Module, run: LogitsFunction) -> float:
    """Return the largest difference of the logits over the largest logit, for each of BATCH_SIZES.

    Raises ExportError if it is larger than the precision allows.
    """
    steps, largest = info.preprocessing, 0.0
    allowed = TOLERANCE[info.precision] + (TOLERANCE_INSIDE if steps.inside else 0)
    with torch.inference_mode():
        for size in BATCH_SIZES:
            images = _photographs(size)
            normal = np.stack([steps.normalize(steps.crop_pixels(image)) for image in images])
            expected = built(torch.from_numpy(normal)).numpy()
            actual = run(np.stack(list(map(steps.read_pixels, images))) if steps.inside else normal)
            if actual.shape != expected.shape:
                raise ExportError(
                    f"the exported {info.name} returns logits {list(actual.shape)}, torch {list(expected.shape)}"
                )
            difference = float(np.abs(actual - expected).max() / np.abs(expected).max())
            if not difference <= allowed or not np.isfinite(difference):  # also for NaN
                raise ExportError(
                    f"the exported {info.name} returns other logits than torch: relative difference {difference:.1e}, "
                    f"at most {allowed:g} is allowed"
                )
            largest = max(largest, difference)
    return largest


def _photographs(count: int) -> list[Image.Image]:
    """Return scikit-learn's two photographs and shifted copies of them; a single one is upright."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    if count == 1:
        return [Image.fromarray(np.rot90(photographs[0]).copy())]
    shifted = [np.roll(image, 32 * shift, axis=1) for shift in range(count) for image in photographs]
    return list(map(Image.fromarray, shifted[:count]))
