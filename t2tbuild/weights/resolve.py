"""Resolve a path to weights and a spec: a file, an exported folder, a run directory, or a spec. Torch-free.

Weights that are named by something else than a path (`released:NAME`, `hf-hub:ORG/NAME`) are downloaded first.
"""

from dataclasses import dataclass
from pathlib import Path

from t2tbuild import manifest
from t2tbuild.errors import InputError
from t2tbuild.files import is_dir, is_file
from t2tbuild.spec.catalog import RUN_SPEC, SPEC_SUFFIXES, WINNER, spec_in_run
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import LOCAL_DIR, WEIGHT_FILES, Weights, is_remote, name_released
from t2tbuild.weights.remote import fetch


@dataclass(frozen=True)
class WeightsSource:
    """The spec and the checkpoint that a path names.

    Attributes:
        path: The path that was resolved, without timm's `local-dir:`; for a download, its place in the cache.
        run: The run directory; None if the path names no run, that is, no folder with `checkpoints/`.
        checkpoint: A file of weights or a folder that holds one; for a run, its newest valid checkpoint. None if the
            path names a spec without a run, does not exist, or if the run has no valid checkpoint.
        skipped: Newer checkpoints of the run that do not match their manifest, each with the reason.
    """

    path: str
    run: Path | None
    checkpoint: Path | None
    skipped: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """The path or name of the spec to open."""
        return find_spec(self.path)

    @property
    def file(self) -> str:
        """The path to load. Without a checkpoint it is the run or the path, and loading it explains what is missing."""
        return str(self.checkpoint or self.run or self.path)

    def choose(self, spec: Spec, file: str | None = None) -> Weights | None:
        """Return the weights in `file`, else those of the run, else those of the spec, else None."""
        if file is not None:
            return Weights(file=name_released(file, spec.model.name))
        return spec.weights if self.run is None else Weights(file=self.file)


def resolve_weights(path: str | Path) -> WeightsSource:
    """Resolve a file of weights, an exported folder, a run directory or its spec.yaml, or the path or name of a spec.

    Reads the checkpoints of a run to compare them with their manifests. Does not raise where no path is found; released
    weights and those of the Hub are downloaded, with the errors of `fetch`.
    """
    name = str(fetch(str(path)) if is_remote(str(path)) else path).removeprefix(LOCAL_DIR)
    found, run = Path(name), _run_of(Path(name))
    checkpoint, skipped = None, list[str]()
    if run is not None:
        checkpoint, skipped = manifest.latest_valid(run / "checkpoints", WEIGHT_FILES[:1])
    if checkpoint is None and (weight_file(found) or (is_file(found) and found.suffix not in SPEC_SUFFIXES)):
        checkpoint = found
    return WeightsSource(name, run, checkpoint, tuple(skipped))


def find_spec(path: str) -> str:
    """Return the spec of a run directory, of a search that of its winner; any other path or name unchanged."""
    return str(spec_in_run(Path(path)) or path)


def describe_untrained(path: str | Path) -> str:
    """Return what to do about the run of a search, whose winner is untrained at full size; empty for other paths."""
    winner = spec_in_run(Path(path))
    if winner is None or winner.name != WINNER:
        return ""
    return f"{path} is the run of a search, whose winner is untrained; train it: t2tbuild train {winner}"


def missing_weights(path: str | Path | None, purpose: str) -> InputError:
    """Return the error of a model without weights, which are needed to `purpose`; `path` named it, if any did."""
    hint = "" if path is None else describe_untrained(path)
    return InputError(f"no weights to {purpose}: {hint or 'name a run'}, or add --weights FILE")


def weight_file(folder: Path) -> Path | None:
    """Return the file of weights that lies directly in a folder, if there is one."""
    return next((folder / name for name in WEIGHT_FILES if is_file(folder / name)), None)


def _run_of(path: Path) -> Path | None:
    """Return the run directory that a path names, either directly or by its spec.yaml."""
    run = path.parent if path.name == RUN_SPEC else path
    return run if is_dir(run / "checkpoints") else None
