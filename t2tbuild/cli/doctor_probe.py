"""Import modules and report each on a line; of torch the devices too. A script of its own, run by doctor_checks.

It imports nothing of t2tbuild before it is asked to, so that a broken package is a report and no crash.
"""

import importlib
import json
import sys
from typing import Any

MARK = "t2tbuild-doctor:"
"""Start of a line of a report; packages may print other lines."""

MODEL = "t2tbuild.timm"
"""The module after whose import a model is built and run."""


def report(**fields: Any) -> None:
    """Print a report on a line."""
    print(MARK + json.dumps(fields), flush=True)


def probe(name: str) -> dict[str, Any]:
    """Import a module and return more about it. Raises any error of the module."""
    module = importlib.import_module(name)
    if name == "torch":
        return {"devices": list_devices(module), "cuda": module.version.cuda}
    if name == MODEL:
        run_model()
    return {}


def list_devices(torch: Any) -> list[dict[str, str]]:
    """Return the devices of torch, each with what is wrong with a product on it."""
    found = [{"name": "cpu", "label": f"{torch.get_num_threads()} threads"}]
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 1e9
        label = f"{torch.cuda.get_device_name(number)}, {memory:.0f} GB"
        found.append({"name": f"cuda:{number}", "label": label})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "label": "Apple GPU"})
    for one in found:
        try:
            ones = torch.ones(8, 8, device=one["name"])
            one["error"] = "" if (ones @ ones).sum().item() == 8**3 else "a matrix product has a wrong result"
        except Exception as error:
            one["error"] = f"{type(error).__name__}: {error}"
    return found


def run_model() -> None:
    """Build a small model and run it once. Raises ValueError if its logits are not finite."""
    import torch

    from t2tbuild import build_model, load_spec

    model = build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(1, 3, 64, 64))
    if not logits.isfinite().all():
        raise ValueError("its logits are not finite")


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        report(start=asked)
        try:
            more, wrong = probe(asked), ""
        except BaseException as error:  # a module may even end the process by SystemExit
            more, wrong = {}, f"{type(error).__name__}: {error}"[:500]
        report(done=asked, error=wrong, **more)
