"""Compare size, latency and accuracy of a trained model in torch and in its exported files, in one table.

    OMP_NUM_THREADS=1 python benchmarks/exports.py [RUN]

RUN is a finished run on data of its own; without it, the script trains t2t_vit_7 on the digits. Each form runs one
image on one thread, in turn; "other class" counts the validation images whose class is not torch's.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from t2tbuild import build_model, load_spec, load_weights, train
from t2tbuild.bench.timing import time_steps
from t2tbuild.training.calibration import Calibration
from t2tbuild.training.data import load_data
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.training.resolve import resolve_evaluation
from t2tbuild.weights.export import export_model
from t2tbuild.weights.exported import open_exported
from t2tbuild.weights.formats import Format, export_size

CPU = torch.device("cpu")
FORMS = {
    "onnx": ("m.onnx", Format.ONNX, ""),
    "onnx float16": ("half.onnx", Format.ONNX, "half"),
    "onnx int8": ("int8.onnx", Format.ONNX, "int8"),
    "torch.export": ("m.pt2", Format.TORCH_EXPORT, ""),
    "openvino": ("m.xml", Format.OPENVINO, ""),
    "openvino int8": ("int8.xml", Format.OPENVINO, "int8"),
}


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else train(load_spec("t2t_vit_7"), tempfile.mkdtemp()).run)
    spec, labels_of = resolve_evaluation(load_spec(run / "spec.yaml"), None)
    assert spec.train is not None
    torch.set_num_threads(1)
    model = build_model(spec.model)
    load_weights(model, run)
    model.eval()
    steps = find_preprocessing(spec, None, model)
    data = load_data(spec.train.data, image=spec.model.image, in_chans=spec.model.in_chans, device=CPU)
    batches = list(data.eval_batches("validation", rank=0, world_size=1, batch_size=16))
    labels = np.concatenate([labels.numpy() for _, labels in batches])

    def in_torch(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    runs, sizes, differences = {"torch": in_torch}, {}, {"torch": 0.0}
    sizes["torch"] = sum(value.nbytes for value in model.state_dict().values())
    folder = Path(tempfile.mkdtemp())
    for name, (file, kind, how) in FORMS.items():
        calibration = Calibration(spec, labels_of, images=200, max_drop=100)
        int8 = calibration.int8(model) if how == "int8" else None
        path = folder / file
        differences[name] = export_model(
            spec.model, model, path, kind, preprocessing=steps, half=how == "half", int8=int8
        )
        runs[name] = open_exported(path, threads=1)
        sizes[name] = export_size(path)

    found = {
        name: np.concatenate([run(images.numpy()) for images, _ in batches]).argmax(1) for name, run in runs.items()
    }
    one = batches[0][0][:1].numpy()
    timings = time_steps({name: (lambda run=run: run(one)) for name, run in runs.items()}, CPU, seconds=20, rounds=50)
    print(f"| {spec.model.name} | MB | ms, median | ms, p95 | accuracy | other class | difference of logits |")
    print("|---|---|---|---|---|---|---|")
    for name in runs:
        timing = timings[name]
        print(
            f"| {name} | {sizes[name] / 1e6:.1f} | {timing.median * 1e3:.2f} | {timing.p95 * 1e3:.2f} "
            f"| {(found[name] == labels).mean():.1%} | {(found[name] != found['torch']).sum()} of {len(labels)} "
            f"| {differences[name]:.0e} |"
        )


main()
