"""`train`: from a spec to a run directory, from the first step or from the latest checkpoint."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from t2tbuild.errors import InputError, TrainingError
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import SearchSpec, Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.checkpoint import (
    Checkpoint,
    find_latest_checkpoint,
    hide_invalid_checkpoints,
    load_checkpoint,
)
from t2tbuild.training.data.python_datasets import LabelledImages, PythonDatasets
from t2tbuild.training.data_notices import data_notices
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.device_memory import suggest_smaller_batch
from t2tbuild.training.distributed import DistributedContext, init_distributed
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.progress import Progress
from t2tbuild.training.reports import Listener, Notice, TrainResult, ignore_report
from t2tbuild.training.resolve import describe_replaced_classes, resolve, resolve_files
from t2tbuild.training.run_directory import MetricsFile, default_run_directory, open_run, read_json_lines
from t2tbuild.training.signals import handle_signals
from t2tbuild.training.trainer import Trainer


def train(
    spec: Spec,
    out: str | Path | None = None,
    *,
    data: PythonDatasets | Sequence[LabelledImages] | None = None,
    listener: Listener | None = None,
    device: str | None = None,
) -> TrainResult:
    """Train the spec's model and write a run directory at `out` (by default a new one below runs/).

    An unfinished run continues from its latest valid checkpoint, with the same bits on a CPU; a complete one only
    returns its result. `device` is cpu, cuda, cuda:N or mps; without it training uses CUDA if available, else the CPU.
    `data` are your own datasets, (train_set, val_set) or (train_set, val_set, test_set), in place of the spec's: any
    torch Dataset of (image, label), where an image is a PIL image, an array or a tensor (see `PythonDatasets`).

    Started by torchrun, all processes train together, each on its own device. `listener` is called with a report of
    each step and epoch, and with notices.

    SIGINT and SIGTERM end the step, save a checkpoint and raise KeyboardInterrupt; a second signal stops at once.

    Raises InputError when `spec` is no Spec, when there is no such device, when `out` holds other files, or when the
    data or the weights do not fit the model, and TrainingError when the loss is not finite or memory runs out.

        >>> import tempfile
        >>> from t2tbuild import load_spec
        >>> spec = load_spec("t2t_vit_7", ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1"])
        >>> result = train(spec, tempfile.mkdtemp())
        >>> sorted(path.name for path in result.run.iterdir() if path.name[0] != ".")
        ['checkpoints', 'environment.json', 'metrics.jsonl', 'spec.yaml']
    """
    _require_spec(spec)
    datasets = None if data is None else PythonDatasets.of(data)
    if datasets is not None:
        spec = datasets.put_into(spec)
    resolved = resolve_files(resolve(spec))
    with init_distributed(pick_device(device)) as distributed:
        run = distributed.broadcast(Path(out) if out is not None else default_run_directory(spec.model.name))
        notify = (listener or ignore_report) if distributed.is_main else ignore_report
        with suggest_batch_when_out_of_memory(resolved, distributed), handle_signals() as interrupt:
            is_new = distributed.broadcast(not (run / "spec.yaml").exists())
            # a new run is built before its directory, so that an error leaves no files
            trainer = Trainer(resolved, run, distributed, notify, None, datasets) if is_new else None
            if is_new:
                _notify_choices(spec, resolved, notify)
            with open_run(run, resolved, distributed.device) if distributed.is_main else nullcontext():
                distributed.barrier()
                result: TrainResult | None = distributed.broadcast(_read_result(run) if distributed.is_main else None)
                if result is not None:
                    notify(Notice(f"{run} is complete"))
                    return result
                if trainer is None:
                    checkpoint = _load_latest(run, distributed, notify)
                    trainer = Trainer(resolved, run, distributed, notify, checkpoint, datasets)
                return trainer.fit(interrupt)


def _require_spec(spec: object) -> None:
    """Raise InputError when a caller passes something else than a Spec."""
    if isinstance(spec, Spec):
        return
    hint = f'write train(load_spec("{spec}"))' if isinstance(spec, str | Path) else "load_spec() returns one"
    if isinstance(spec, ModelSpec | TimmModel):
        hint = "write train(Spec(version=1, model=model_spec))"
    elif isinstance(spec, SearchSpec):
        hint = "search() takes a SearchSpec"
    raise InputError(f"train: spec is a {type(spec).__name__}, expected a Spec; {hint}")


def _notify_choices(spec: Spec, resolved: Spec, notify: Listener) -> None:
    """Notify of what was chosen for the data of a new run, and of the classes that the data replaced."""
    given, chosen = (one.train or TrainSpec() for one in (spec, resolved))
    replaced = describe_replaced_classes(spec, resolved)
    for text in (*data_notices(given.data, chosen.data), *([replaced] if replaced else [])):
        notify(Notice(text))


def _read_result(run: Path) -> TrainResult | None:
    """Return the result of a complete run, None for an unfinished one."""
    lines = read_json_lines(run / "metrics.jsonl")
    records: list[Any] = [line.get("result") for line in lines if line.get("event") == "result"]
    if not records:
        return None
    try:
        return TrainResult(**records[-1] | {"run": run, "skipped": tuple(records[-1].get("skipped", ()))})
    except (TypeError, AttributeError):
        message = f"{run / 'metrics.jsonl'}: its result is damaged; delete that line to evaluate the run again"
        raise TrainingError(message) from None


def _load_latest(run: Path, distributed: DistributedContext, notify: Listener) -> Checkpoint | None:
    """Load the checkpoint to continue from, the same on every rank, and drop the metrics of later epochs."""
    latest, invalid = distributed.broadcast(
        find_latest_checkpoint(run / "checkpoints") if distributed.is_main else None
    )
    if invalid:
        notify(Notice("an earlier checkpoint is used, because later ones are invalid:\n" + "\n".join(invalid)))
    checkpoint = load_checkpoint(latest) if latest else None
    distributed.barrier()
    if distributed.is_main:
        hide_invalid_checkpoints(run / "checkpoints", latest)
        epoch = Progress.from_json(checkpoint.progress).epoch if checkpoint else 0
        MetricsFile(run / "metrics.jsonl").drop_after(epoch)
    if checkpoint is not None:
        notify(Notice(f"training continues from {latest}"))
    return checkpoint


def suggest_batch_when_out_of_memory(spec: Spec, distributed: DistributedContext) -> AbstractContextManager[None]:
    """Within this context, an out-of-memory error suggests the batch size that would fit."""
    assert spec.train is not None
    dtype = pick_dtype(spec.train.precision, distributed.device)
    return catch_out_of_memory(lambda: suggest_smaller_batch(spec, distributed, dtype))
