"""Spec -> run directory: the whole of a training, from its first epoch or from where an earlier process left it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from t2tbuild.build import build_model
from t2tbuild.spec.tree import Spec
from t2tbuild.train.checkpoint import Checkpoint, load_newest, save_checkpoint
from t2tbuild.train.data import ImageData, batches, batches_in_epoch, load_data, mix
from t2tbuild.train.loop import CHECK_EVERY, evaluate, memory_errors, pick_device, require_finite, train_step
from t2tbuild.train.optim import make_optimizer, make_schedule
from t2tbuild.train.resolve import resolve
from t2tbuild.train.run_directory import append_json, default_folder, open_run, read_json_lines
from t2tbuild.weights.load import load_named
from t2tbuild.weights.read import position_metadata


@dataclass(frozen=True)
class StepReport:
    """Where training stands within an epoch, for a progress bar."""

    epoch: int
    epochs: int
    step: int
    steps: int


@dataclass(frozen=True)
class EpochReport:
    """What an epoch gave: training loss, validation loss and accuracy (0 to 1), images per second, learning rate."""

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    images_per_second: float
    lr: float


@dataclass(frozen=True)
class TrainResult:
    """What a training gave. Accuracies are top-1, 0 to 1; test is measured once, with the last epoch's weights."""

    name: str
    run: Path
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    seconds: float
    device: str


Listener = Callable[[StepReport | EpochReport], None]


def _ignore(_report: StepReport | EpochReport) -> None:
    """What hears when nobody listens."""


def train(spec: Spec, out: str | Path | None = None, *, listener: Listener | None = None) -> TrainResult:
    """Train the spec's model and leave a run directory at `out` (by default a new one below runs/).

    A run that stopped early is continued from its last epoch; one that is complete is only reported. CUDA with bfloat16
    when there is one, else the CPU. `listener` hears of every step and epoch.

    Raises InputError when `out` holds something else, or the data or the spec's weights do not suit the model, and
    TrainingError when the loss is not finite or the memory is full.

        >>> import tempfile
        >>> from t2tbuild import load_spec
        >>> spec = load_spec("t2t_vit_7", ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1"])
        >>> result = train(spec, tempfile.mkdtemp())
        >>> sorted(path.name for path in result.run.iterdir() if path.name[0] != ".")
        ['checkpoints', 'environment.json', 'metrics.jsonl', 'spec.yaml']
    """
    resolved, device = resolve(spec), pick_device()
    run = Path(out) if out is not None else default_folder(spec.model.name)
    with memory_errors():
        fresh = not (run / "spec.yaml").exists()
        training = _Training(resolved, run, device, listener or _ignore) if fresh else None  # its errors leave no run
        with open_run(run, resolved, device):
            done = [record for record in read_json_lines(run / "metrics.jsonl") if record["event"] == "result"]
            if done:
                return TrainResult(**done[-1]["result"] | {"run": run})
            return (training or _Training(resolved, run, device, listener or _ignore)).finish()


class _Training:
    """A training under way: model, optimiser, schedule, and how far they are."""

    def __init__(self, spec: Spec, run: Path, device: torch.device, listener: Listener) -> None:
        assert spec.train is not None
        self.name, self.recipe, self.run, self.listener = spec.model.name, spec.train, run, listener
        self.data: ImageData = load_data(spec.train.data, in_chans=spec.model.in_chans, device=device)
        torch.manual_seed(self.recipe.seed)
        self.model = build_model(spec.model)
        checkpoint = load_newest(run / "checkpoints")
        if spec.weights and checkpoint is None:
            load_named(self.model, spec.weights)
        self.model.to(device)
        self.optimizer = make_optimizer(self.model, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay)
        self.steps = batches_in_epoch(self.data, self.recipe.batch_size)
        self.schedule = make_schedule(self.optimizer, self.recipe, self.steps)
        self.epoch, self.seconds, self.device = 0, 0.0, device
        if checkpoint is not None:
            self._continue(checkpoint)

    def finish(self) -> TrainResult:
        while self.epoch < self.recipe.epochs:
            started = time.perf_counter()
            report = self._train_epoch()
            self.epoch += 1
            self.seconds += time.perf_counter() - started
            self._save(report)
            self.listener(report)
        test, validation = evaluate(self.model, self.data.test), evaluate(self.model, self.data.validation)
        result = TrainResult(
            name=self.name,
            run=self.run,
            epochs=self.epoch,
            validation_accuracy=validation.accuracy,
            test_accuracy=test.accuracy,
            test_loss=test.loss,
            seconds=self.seconds,
            device=self.device.type,
        )
        append_json(self.run / "metrics.jsonl", {"event": "result", "result": asdict(result) | {"run": str(self.run)}})
        return result

    def _train_epoch(self) -> EpochReport:
        torch.manual_seed(mix(self.recipe.seed, self.epoch))  # dropout, too, is a function of (seed, epoch)
        self.model.train()
        started, loss_sum, lr = time.perf_counter(), torch.zeros((), device=self.device), 0.0
        stream = batches(self.data, batch_size=self.recipe.batch_size, seed=self.recipe.seed, epoch=self.epoch)
        images_seen = 0
        for step, (images, labels) in enumerate(stream):
            self.schedule.step_update(self.epoch * self.steps + step)
            lr = self.optimizer.param_groups[0]["lr"]
            loss = train_step(
                self.model,
                self.optimizer,
                images,
                labels,
                label_smoothing=self.recipe.label_smoothing,
                clip_grad=self.recipe.clip_grad,
            )
            loss_sum += loss
            if step % CHECK_EVERY == 0:
                require_finite(loss.item(), self.epoch * self.steps + step)
            images_seen += len(labels)
            self.listener(StepReport(self.epoch, self.recipe.epochs, step + 1, self.steps))
        train_loss = loss_sum.item() / self.steps
        require_finite(train_loss, (self.epoch + 1) * self.steps)
        rate = images_seen / (time.perf_counter() - started)
        validation = evaluate(self.model, self.data.validation)
        return EpochReport(
            epoch=self.epoch + 1,
            epochs=self.recipe.epochs,
            train_loss=train_loss,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            images_per_second=rate,
            lr=lr,
        )

    def _save(self, report: EpochReport) -> None:
        """Metrics first: on a kill between the two, the epoch is trained again to the same bits and told again."""
        append_json(self.run / "metrics.jsonl", {"event": "epoch", **asdict(report)})
        progress = {"epoch": self.epoch, "seconds": self.seconds}
        told = position_metadata(self.model)
        state = Checkpoint(self.model.state_dict(), self.optimizer.state_dict(), progress, told)
        save_checkpoint(self.run / "checkpoints", f"epoch-{self.epoch:06}", state)

    def _continue(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.epoch, self.seconds = checkpoint.progress["epoch"], checkpoint.progress["seconds"]
