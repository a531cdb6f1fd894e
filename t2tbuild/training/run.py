"""Spec -> run directory: the whole of a training, from its first step or from where an earlier process left it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from t2tbuild.spec.root import Spec
from t2tbuild.training.checkpoint import Checkpoint, find_newest, read_checkpoint, set_aside
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.device_memory import smaller_batch
from t2tbuild.training.distributed import Ranks, join_ranks
from t2tbuild.training.loop import memory_errors
from t2tbuild.training.reports import Listener, Notice, TrainResult, ignore
from t2tbuild.training.resolve import locate, resolve
from t2tbuild.training.run_directory import Metrics, default_folder, open_run, read_json_lines
from t2tbuild.training.signals import listening
from t2tbuild.training.trainer import Trainer


def train(spec: Spec, out: str | Path | None = None, *, listener: Listener | None = None) -> TrainResult:
    """Train the spec's model and leave a run directory at `out` (by default a new one below runs/).

    A run that stopped early is continued from its newest sound checkpoint, to the same bits on a CPU; one that is
    complete is only reported. CUDA when there is one, else the CPU; started by torchrun, all its processes train
    together, each on its device. `listener` hears of every step and epoch, and of what went wrong but did not stop it.

    SIGINT and SIGTERM end the step, save a checkpoint and raise KeyboardInterrupt; a second one stops at once.

    Raises InputError when `out` holds something else, or the data or the spec's weights do not suit the model, and
    TrainingError when the loss is not finite or the memory is full.

        >>> import tempfile
        >>> from t2tbuild import load_spec
        >>> spec = load_spec("t2t_vit_7", ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1"])
        >>> result = train(spec, tempfile.mkdtemp())
        >>> sorted(path.name for path in result.run.iterdir() if path.name[0] != ".")
        ['checkpoints', 'environment.json', 'metrics.jsonl', 'spec.yaml']
    """
    resolved = locate(resolve(spec))
    with join_ranks(pick_device()) as ranks:
        run = ranks.agree(Path(out) if out is not None else default_folder(spec.model.name))
        message = (listener or ignore) if ranks.first else ignore
        with out_of_memory(resolved, ranks), listening() as interrupt:
            fresh = ranks.agree(not (run / "spec.yaml").exists())
            training = Trainer(resolved, run, ranks, message, None) if fresh else None  # its errors leave no run
            with open_run(run, resolved, ranks.device) if ranks.first else nullcontext():
                ranks.wait()
                done: TrainResult | None = ranks.agree(_result(run) if ranks.first else None)
                if done is not None:
                    message(Notice(f"{run} is complete"))
                    return done
                if training is None:
                    training = Trainer(resolved, run, ranks, message, _newest(run, ranks, message))
                return training.finish(interrupt)


def _result(run: Path) -> TrainResult | None:
    """What a run that is complete gave."""
    records = [record["result"] for record in read_json_lines(run / "metrics.jsonl") if record.get("event") == "result"]
    if not records:
        return None
    return TrainResult(**records[-1] | {"run": run, "skipped": tuple(records[-1].get("skipped", ()))})


def _newest(run: Path, ranks: Ranks, message: Listener) -> Checkpoint | None:
    """The checkpoint to continue from, the same for every rank; metrics of what is trained again are dropped."""
    newest, broken = ranks.agree(find_newest(run / "checkpoints") if ranks.first else None)
    if broken:
        message(Notice("broken, so an earlier checkpoint is used:\n" + "\n".join(broken)))
    checkpoint = read_checkpoint(newest) if newest else None
    ranks.wait()
    if ranks.first:
        set_aside(run / "checkpoints", newest)
        Metrics(run / "metrics.jsonl").forget_after(checkpoint.progress["epoch"] if checkpoint else 0)
    if checkpoint is not None:
        message(Notice(f"continues from {newest}"))
    return checkpoint


def out_of_memory(spec: Spec, ranks: Ranks) -> AbstractContextManager[None]:
    """Within this context, a full memory ends with the batch that would fit."""
    assert spec.train is not None
    dtype = pick_dtype(spec.train.precision, ranks.device)
    return memory_errors(lambda: smaller_batch(spec, ranks, dtype))
