"""Proxy training of one candidate, from rung to rung."""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from t2tbuild.build import build_model
from t2tbuild.errors import TrainingError
from t2tbuild.nas.record import Rung
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.training.checkpoint import Checkpoint, DiskError, find_latest_checkpoint, load_checkpoint, save_checkpoint
from t2tbuild.training.data import Data, SplitName
from t2tbuild.training.device import pick_dtype
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.ema import averaged_model, create_ema
from t2tbuild.training.evaluate import Evaluation, evaluate
from t2tbuild.training.loop import CHECK_EVERY, require_finite, train_step
from t2tbuild.training.objective import ClassificationTask
from t2tbuild.training.optim import make_optimizer
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

CLIP_GRAD = 1.0


class ProxyTrainer:
    """The proxy training of one candidate, from rung to rung.

    A checkpoint at each rung lets another process continue it. The learning rate is constant after the warm-up, so that
    results at a rung are comparable.
    """

    def __init__(self, model: ModelSpec, data: Data, proxy: Proxy, *, seed: int, device: torch.device) -> None:
        self.proxy, self.seed, self.data, self.device = proxy, seed, data, device
        torch.manual_seed(seed)
        self.model = build_model(model).to(device).train()
        self.lr = proxy.lr
        if proxy.lr_depth is not None:
            self.lr *= math.sqrt(proxy.lr_depth / model.backbone.depth)
        self.optimizer = make_optimizer(self.model, lr=self.lr, weight_decay=proxy.weight_decay)
        self.ema = create_ema(self.model, proxy.ema)
        self.objective = ClassificationTask(self.model, label_smoothing=0.0)
        self.dtype = pick_dtype("auto", device)
        self.sampler = EpochSampler(data.size("train"), proxy.batch_size, seed)
        self.step = 0
        self.rungs: list[Rung] = []

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from given weights in place of randomly initialised ones, before the first step."""
        self.model.load_state_dict(weights)
        self.ema = create_ema(self.model, self.proxy.ema)

    def train(self, check: Callable[[], None], folder: Path | None = None) -> Iterator[Rung]:
        """Train and yield the result of each rung. The caller prunes by leaving the iterator.

        `check` is called before each step and may raise. With a `folder`, a checkpoint is written there at each rung,
        and rungs that an earlier process reached are yielded first. Raises TrainingError when the loss is not finite.
        """
        if folder is not None:
            self.restore(folder)
        yield from tuple(self.rungs)
        for steps in self.proxy.rungs[len(self.rungs) :]:
            self.rungs.append(self._train_to(steps, check))
            if folder is not None:
                self._save(folder)
            yield self.rungs[-1]

    def _train_to(self, rung: int, check: Callable[[], None]) -> Rung:
        started = time.perf_counter()
        evaluations: list[Evaluation] = []
        for loss in self.steps(rung, check):
            if self.step % CHECK_EVERY == 0:
                require_finite(loss.item(), self.step)
            if self.step in self.proxy.evaluation_steps(rung):
                evaluations.append(self._evaluate("validation"))
                require_finite(evaluations[-1].loss, self.step)
        return Rung(
            steps=rung,
            accuracy=statistics.fmean(one.accuracy for one in evaluations),
            loss=statistics.fmean(one.loss for one in evaluations),
            seconds=time.perf_counter() - started,
        )

    def steps(self, end: int, check: Callable[[], None] = lambda: None) -> Iterator[Tensor]:
        """Train to step `end` and yield the loss of each step. `check` is called before each step and may raise."""
        epoch, step = divmod(self.step, self.sampler.steps_per_epoch)
        epochs = 1 + end // self.sampler.steps_per_epoch
        batches = self.data.train_batches(self.sampler, epoch=epoch, step=step, epochs=epochs)
        for images, labels in itertools.islice(batches, end - self.step):
            check()
            self.step += 1
            torch.manual_seed(fold_in(self.seed, self.step))
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * min(1.0, self.step / max(1, self.proxy.warmup_steps))
            loss = train_step(
                self.objective, self.model, self.optimizer, images, labels, dtype=self.dtype, clip_grad=CLIP_GRAD
            )
            if self.ema is not None:
                self.ema.update(self.model)
            yield loss

    def _evaluate(self, split: SplitName) -> Evaluation:
        model = averaged_model(self.model, self.ema)
        return evaluate(model, self.data, split, DistributedContext(self.device), self.dtype)

    def test(self) -> Evaluation:
        """Evaluate on the test split."""
        return self._evaluate("test")

    def _save(self, folder: Path) -> None:
        ema = None if self.ema is None else self.ema.module.state_dict()
        progress = {"done": self.step, "rungs": [vars(rung) for rung in self.rungs]}
        state = {"optimizer": self.optimizer.state_dict()}
        name = f"step-{self.step:08}"
        with contextlib.suppress(DiskError):  # training continues; only a kill would lose this rung
            save_checkpoint(folder, name, Checkpoint(self.model.state_dict(), state, progress, ema))

    def restore(self, folder: Path) -> bool:
        """Load the newest valid checkpoint of a folder. Returns False where there is none."""
        try:
            newest, _ = find_latest_checkpoint(folder)
            checkpoint = None if newest is None else load_checkpoint(newest)
        except TrainingError:  # no checkpoint is valid: train from the start
            return False
        if checkpoint is None:
            return False
        self.model.load_state_dict(checkpoint.model)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.module.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.step = checkpoint.progress["done"]
        self.rungs = [Rung(**rung) for rung in checkpoint.progress["rungs"]]
        return True
