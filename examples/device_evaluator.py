"""An evaluator that measures latency on a device, by a command, and accuracy by a cheap linear classifier.

device_evaluator.yaml names `evaluate` in search.evaluator. The "device" is this machine with onnxruntime; replace
COMMAND by what runs a model on yours, for example ["ssh", "board", "python3", "device_latency.py"] after a copy.
"""

import subprocess
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from t2tbuild import build_model
from t2tbuild.nas.evaluator import Candidate
from t2tbuild.weights import export_model
from t2tbuild.weights.formats import Format

COMMAND = [sys.executable, str(Path(__file__).with_name("device_latency.py"))]
SECONDS = 120.0
"""The longest time of a measurement."""
VALIDATION = 360
"""Images at the end of the data, which no classifier is fitted to."""

_latencies: dict[str, float] = {}


def evaluate(candidate: Candidate, steps: int) -> dict[str, float]:
    """Return the latency first (0 steps), then the accuracy with a classifier that is fitted to `steps` images."""
    candidate.check()
    if steps == 0:
        if candidate.key not in _latencies:  # the base and confirmed candidates are evaluated with several seeds
            _latencies[candidate.key] = measure_latency(candidate)
        return {"latency": _latencies[candidate.key]}
    return {"accuracy": measure_accuracy(candidate, steps)}


def measure_latency(candidate: Candidate) -> float:
    """Export a candidate to ONNX and return the seconds of one image, as the device's command prints them."""
    file = candidate.folder / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    export_model(candidate.model, build_model(candidate.model), file, Format.ONNX)
    command = [*COMMAND, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603  # ours
    if done.returncode != 0:
        raise RuntimeError(f"the device failed: {done.stderr.strip()[-200:]}")  # the candidate fails with this reason
    return float(done.stdout)


def measure_accuracy(candidate: Candidate, fitted: int) -> float:
    """Return the validation accuracy of a linear classifier on the features of the untrained candidate."""
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    torch.manual_seed(candidate.seed)
    model = build_model(candidate.model).eval()
    with torch.inference_mode():
        features = model.forward_features(images).mean(1).numpy()
    classifier = RidgeClassifier().fit(features[:-VALIDATION][:fitted], labels[:-VALIDATION][:fitted])
    return float(classifier.score(features[-VALIDATION:], labels[-VALIDATION:]))
