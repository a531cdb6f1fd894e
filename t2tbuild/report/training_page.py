"""report.html of a training run."""

import json
import shlex
from base64 import b64encode
from pathlib import Path
from typing import Any

from t2tbuild.cost import Cost
from t2tbuild.cost.counter import known_cost
from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write, nan_to_none
from t2tbuild.report.confusion import CONFUSION_PNG, MISTAKES_PNG
from t2tbuild.report.curves import draw_curves
from t2tbuild.report.figure import as_svg
from t2tbuild.report.page import format_command, render
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel
from t2tbuild.spec.units import plural, short_count
from t2tbuild.training.reports import complete_epochs
from t2tbuild.training.run_directory import read_environment, read_json_lines


def write_training_page(run: Path) -> None:
    """Write report.html and report.json, which has all its numbers, into the run directory of a training.

    Raises InputError if no epoch is complete.
    """
    report = training_report(run)
    atomic_write(run / "report.json", json.dumps(report, indent=1) + "\n")
    last = report["epochs"][-1]
    data = {"epochs": report["epochs"]}
    text = render(
        "training.html.j2",
        data,
        ["training.js"],
        report=report,
        last=last,
        facts=_facts(report),
        pictures=_pictures(run),
        curves=as_svg(draw_curves(run)),
        short=short_count,
        command=format_command(report["environment"]),
    )
    atomic_write(run / "report.html", text)


def _pictures(run: Path) -> list[tuple[str, str]]:
    """Return the pictures that `t2tbuild evaluate RUN --out RUN` wrote: captions and the images as data URLs."""
    captions = {CONFUSION_PNG: "Confusion matrix", MISTAKES_PNG: "The most confident mistakes"}
    found = [(caption, run / name) for name, caption in captions.items() if (run / name).is_file()]
    return [(caption, f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}") for caption, path in found]


def training_report(run: Path) -> dict[str, Any]:
    """Return the report of a training run as plain data. Raises InputError if no epoch is complete."""
    spec = load_spec(run / "spec.yaml")
    records = read_json_lines(run / "metrics.jsonl")
    epochs = complete_epochs(records)
    if not epochs:
        command = shlex.join(["t2tbuild", "train", str(run / "spec.yaml"), "--out", str(run)])
        raise InputError(f"{run}: no epoch is complete; continue with: {command}")
    result = next((record["result"] for record in reversed(records) if record.get("event") == "result"), None)
    cost = _cost(spec.model)
    best = max(epochs, key=lambda epoch: epoch["validation_accuracy"])
    report = {
        "name": spec.model.name,
        "verdict": _verdict(spec.model.name, epochs, best, result),
        "best": best,
        "epochs": epochs,
        "result": result,
        "num_classes": spec.model.num_classes,
        "label_names": None if spec.model.label_names is None else list(spec.model.label_names),
        "params": cost.params,
        "macs": cost.macs,
        "parts": [part._asdict() | {"parts": []} for part in cost.parts],
        "spec": (run / "spec.yaml").read_text(encoding="utf-8"),
        "environment": read_environment(run),
    }
    cleaned: dict[str, Any] = nan_to_none(report)
    return cleaned


def _cost(model: AnyModel) -> Cost:
    return known_cost(model)


def _verdict(name: str, epochs: list[dict[str, Any]], best: dict[str, Any], result: dict[str, Any] | None) -> str:
    last = epochs[-1]
    reached = f"best validation accuracy {best['validation_accuracy']:.1%} after epoch {best['epoch']}"
    if result is None:
        return f"Training of {name} is not complete: epoch {last['epoch']} of {last['epochs']}, {reached}."
    accuracy = f"validation accuracy {result['validation_accuracy']:.1%}"
    if result["test_accuracy"] is not None:
        accuracy = f"test accuracy {result['test_accuracy']:.1%}, validation {result['validation_accuracy']:.1%}"
    return (
        f"{name}: {accuracy} after "
        f"{plural(result['epochs'], 'epoch')} in {result['seconds']:.0f} s on {result['device']}; {reached}."
    )


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    result, last = report["result"], report["epochs"][-1]
    has_test = result is not None and result["test_accuracy"] is not None
    facts = [("test accuracy", f"{result['test_accuracy']:.1%}")] if has_test else []
    facts += [
        ("last validation", f"{last['validation_accuracy']:.1%}"),
        ("best validation", f"{report['best']['validation_accuracy']:.1%}"),
        ("classes", f"{report['num_classes']:,}"),
        ("epochs", f"{last['epoch']} of {last['epochs']}"),
        ("images/s", f"{last['images_per_second']:.0f}"),
        ("MACs", short_count(report["macs"])),
        ("parameters", short_count(report["params"])),
        ("peak memory", f"{last['memory'] / 2**30:.2f} GiB"),
    ]
    return facts
