"""Rungs of proxy training: each is reached by going on from the one below, and judged on the validation split."""

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import TrainingError
from t2tbuild.nas.record import Rung
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.training.checkpoint import Checkpoint, DiskError, find_newest, read_checkpoint, save_checkpoint
from t2tbuild.training.data import Data
from t2tbuild.training.device import pick_dtype
from t2tbuild.training.distributed import Ranks
from t2tbuild.training.loop import CHECK_EVERY, Evaluation, evaluate, require_finite, train_step
from t2tbuild.training.objective import Classification
from t2tbuild.training.optim import make_optimizer
from t2tbuild.training.sampler import EpochSampler, fold_in

CLIP_GRAD = 1.0


def should_promote(score: float, peers: Sequence[float], keep: int, floor: float = 0.0) -> bool:
    """Whether a candidate climbs on from a rung: it is among the best one in `keep` of those that reached it so far.

    Asynchronous successive halving (Li et al., MLSys 2020): nobody waits for a rung to fill. `peers` are the scores of
    the others there. The first candidates, with fewer than `keep` to compare, climb on when none was better. A peer is
    better only if it is so by more than `floor`, the spread of one model's scores over seeds: what seeds can turn round
    stops nobody.
    """
    better = sum(peer > score + floor for peer in peers)
    return better < max(1, (len(peers) + 1) // keep)


class ProxyTrainer:
    """A candidate in training, from rung to rung, which a checkpoint at each rung lets another process continue."""

    def __init__(self, model: ModelSpec, data: Data, proxy: Proxy, *, seed: int, device: torch.device) -> None:
        self.proxy, self.seed, self.data, self.device = proxy, seed, data, device
        torch.manual_seed(seed)
        self.model = build_model(model).to(device).train()
        self.lr = proxy.lr
        if proxy.lr_depth is not None:
            self.lr *= math.sqrt(proxy.lr_depth / model.backbone.depth)
        self.optimizer = make_optimizer(self.model, lr=self.lr, weight_decay=proxy.weight_decay)
        self.averaged = _average(self.model, proxy.ema)
        self.objective = Classification(self.model, label_smoothing=0.0)
        self.dtype = pick_dtype("auto", device)
        self.order = EpochSampler(data.size("train"), proxy.batch_size, seed)
        self.done = 0
        self.rungs: list[Rung] = []

    def climb(self, check: Callable[[], None], folder: Path | None = None) -> Iterator[Rung]:
        """Train on, and yield each rung; the caller stops by not asking for the next.

        Warm-up, then a constant rate, so that rungs compare. `check` is called before each step and may raise. With a
        `folder`, each rung's state is kept there, and those of an earlier process are yielded first. Raises
        TrainingError when the loss is not finite.
        """
        if folder is not None:
            self.restore(folder)
        yield from tuple(self.rungs)
        for steps in self.proxy.rungs[len(self.rungs) :]:
            self.rungs.append(self._reach(steps, check))
            if folder is not None:
                self._save(folder)
            yield self.rungs[-1]

    def _reach(self, rung: int, check: Callable[[], None]) -> Rung:
        started = time.perf_counter()
        judged: list[Evaluation] = []
        epoch, step = divmod(self.done, self.order.steps)
        stream = self.data.training(self.order, epoch=epoch, step=step, epochs=1 + rung // self.order.steps)
        for images, labels in itertools.islice(stream, rung - self.done):
            check()
            self.done += 1
            torch.manual_seed(fold_in(self.seed, self.done))
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * min(1.0, self.done / max(1, self.proxy.warmup_steps))
            loss = train_step(
                self.objective, self.model, self.optimizer, images, labels, dtype=self.dtype, clip_grad=CLIP_GRAD
            )
            if self.averaged is not None:
                self.averaged.update(self.model)
            if self.done % CHECK_EVERY == 0:
                require_finite(loss.item(), self.done)
            if self.done in self.proxy.judged_at(rung):
                judged.append(self._evaluate())
                require_finite(judged[-1].loss, self.done)
        return Rung(
            steps=rung,
            accuracy=statistics.fmean(one.accuracy for one in judged),
            loss=statistics.fmean(one.loss for one in judged),
            seconds=time.perf_counter() - started,
        )

    def _evaluate(self) -> Evaluation:
        kept = self.model if self.averaged is None else self.averaged.module
        return evaluate(kept, self.data, "validation", Ranks(self.device), self.dtype)

    def test(self) -> Evaluation:
        """The test split, which nothing is chosen by."""
        kept = self.model if self.averaged is None else self.averaged.module
        return evaluate(kept, self.data, "test", Ranks(self.device), self.dtype)

    def _save(self, folder: Path) -> None:
        averaged = None if self.averaged is None else self.averaged.module.state_dict()
        progress = {"done": self.done, "rungs": [vars(rung) for rung in self.rungs]}
        state = {"optimizer": self.optimizer.state_dict()}
        name = f"step-{self.done:08}"
        with contextlib.suppress(DiskError):  # the training goes on; only a kill would lose this rung
            save_checkpoint(folder, name, Checkpoint(self.model.state_dict(), state, progress, averaged))

    def restore(self, folder: Path) -> bool:
        """Go back to the newest sound checkpoint of a folder; whether there is one."""
        try:
            newest, _ = find_newest(folder)
            kept = None if newest is None else read_checkpoint(newest)
        except TrainingError:  # none is sound: it is trained anew
            return False
        if kept is None:
            return False
        self.model.load_state_dict(kept.model)
        if self.averaged is not None and kept.averaged is not None:
            self.averaged.module.load_state_dict(kept.averaged)
        self.optimizer.load_state_dict(kept.state["optimizer"])
        self.done = kept.progress["done"]
        self.rungs = [Rung(**rung) for rung in kept.progress["rungs"]]
        return True


def _average(model: nn.Module, decay: float | None) -> Any:
    if decay is None:
        return None
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(model, decay=float(decay))
