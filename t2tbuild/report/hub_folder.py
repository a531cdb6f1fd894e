"""Write what a repository of the Hugging Face Hub holds: weights, timm's config.json and the model card of a run."""

import json
import re
import shutil
from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.files import atomic_write, exists, is_dir, is_file, read_json
from t2tbuild.report.model_card import UNKNOWN, model_card
from t2tbuild.weights.resolve import resolve_weights

CARD, CONFIG, WEIGHTS = "README.md", "config.json", "model.safetensors"
FILES = (CARD, CONFIG, WEIGHTS)


def require_run(run: Path) -> Path:
    """Return the newest valid checkpoint of a training. Raises InputError for anything else."""
    if is_file(run / "best.yaml"):
        raise InputError(f"{run}: the run of a search has no trained model; first: t2tbuild train {run / 'best.yaml'}")
    source = resolve_weights(run)
    if not is_file(run / "spec.yaml") or source.run is None:
        problem = "no such folder" if not exists(run) else "not the run of a training"
        raise InputError(f"{run}: {problem}; name the --out folder of t2tbuild train")
    if source.checkpoint is None:
        reasons = "\n".join(["", *source.skipped])
        raise InputError(f"{run}: has no valid checkpoint, so there are no weights{reasons}")
    missing = [name for name in (CONFIG, WEIGHTS) if not is_file(source.checkpoint / name)]
    if missing:
        raise InputError(f"{source.checkpoint}: has no {' and no '.join(missing)}; train on with this t2tbuild")
    return source.checkpoint


def require_licence(licence: str) -> None:
    """Raise InputError unless a licence is written as the Hub writes them."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,40}", licence):
        raise InputError(
            f"--licence {licence!r:.60}: write an identifier of the Hub: apache-2.0, mit, cc-by-4.0, other"
        )


def write_hub_folder(run: Path, folder: Path, repository: str, licence: str | None, search: Path | None) -> list[Path]:
    """Write README.md, config.json and model.safetensors of a run into `folder`; return them.

    Raises InputError if the run has no trained weights, or the folder holds anything else; OSError if it cannot be
    written.
    """
    checkpoint = require_run(run)
    if is_dir(folder) and (others := sorted({path.name for path in folder.iterdir()} - set(FILES))):
        raise InputError(f"--out {folder}: holds {', '.join(others[:5])}; name a new folder")
    card = model_card(run, repository, licence or UNKNOWN, search)
    config = read_json(checkpoint / CONFIG)
    config["pretrained_cfg"].pop("license", None)
    if licence is not None:
        config["pretrained_cfg"]["license"] = licence
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{WEIGHTS}.tmp"
    try:
        shutil.copyfile(checkpoint / WEIGHTS, temporary)
        temporary.replace(folder / WEIGHTS)
    finally:
        temporary.unlink(missing_ok=True)
    atomic_write(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    atomic_write(folder / CARD, card)
    return [folder / name for name in FILES]
