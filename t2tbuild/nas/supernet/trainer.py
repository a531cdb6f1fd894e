"""The training of a supernet: a few members at each step, whose gradients add up in the shared tensors."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.errors import TrainingError
from t2tbuild.files import atomic_write
from t2tbuild.nas.proxy import make_proxy_model
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.sampling import add_counts, members_of_step
from t2tbuild.nas.supernet.sliceable import representatives
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import Value
from t2tbuild.spec.supernet import SupernetSpec
from t2tbuild.training.checkpoint import Checkpoint, DiskError, find_latest_checkpoint, load_checkpoint, save_checkpoint
from t2tbuild.training.data import Data
from t2tbuild.training.device import pick_dtype
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.ema import averaged_model, create_ema
from t2tbuild.training.loop import CHECK_EVERY, require_finite
from t2tbuild.training.optim import make_optimizer
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

CLIP_GRAD = 1.0
SAVE_EVERY = 60.0
"""Seconds between two checkpoints."""
CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"


@dataclass(frozen=True)
class SupernetProgress:
    """How far the training of a supernet is: the step, the number of steps, and the loss of the largest member."""

    step: int
    steps: int
    loss: float


def build_supernet(members: Sequence[SupernetMember], proxy: Proxy, device: torch.device) -> Supernet:
    """Build the supernet of the proxy models of members, randomly initialised."""
    largest = representatives([one.model for one in members])
    return Supernet([make_proxy_model(one, proxy, device.type) for one in largest]).to(device)


class SupernetTrainer:
    """The training of a supernet on the data of the proxy.

    The learning rate is constant after the warm-up, as that of the proxy is, and averaged weights are evaluated. Each
    step is a function of the seed and the state before it, so a training that was killed continues to the same bits.

    Args:
        members: The members within the budget, the cheapest first. Their proxy models are trained.
        data: The proxy's data.
        search: The settings of the search; its `supernet` is given.
        distributed: The ranks that train together; each has a share of the batch.
    """

    def __init__(
        self, members: Sequence[SupernetMember], data: Data, search: Search, distributed: DistributedContext
    ) -> None:
        assert search.supernet is not None
        self.members, self.data, self.search, self.distributed = members, data, search, distributed
        self.settings: SupernetSpec = search.supernet
        self.device, proxy = distributed.device, search.proxy
        torch.manual_seed(search.seed)
        self.supernet = build_supernet(members, proxy, self.device)
        self.optimizer = make_optimizer(self.supernet, lr=proxy.lr, weight_decay=proxy.weight_decay)
        self.ema = create_ema(self.supernet, proxy.ema)
        self.dtype = pick_dtype("auto", self.device)
        self.sampler = EpochSampler(
            data.size("train"), proxy.batch_size, search.seed, distributed.rank, distributed.world_size
        )
        self.step = 0
        self.counts: dict[str, Counter[Value]] = {}
        self.history: list[dict[str, Any]] = []

    def proxy_model(self, model: ModelSpec) -> ModelSpec:
        """Return the model that is trained for a member."""
        return make_proxy_model(model, self.search.proxy, self.device.type)

    @cached_property
    def steps(self) -> int:
        """The number of steps of the whole training."""
        epochs = self.settings.epochs
        return self.settings.steps or (epochs or 1) * self.sampler.steps_per_epoch

    def averaged(self) -> Supernet:
        """Return the supernet with averaged weights (EMA), which is evaluated."""
        found = averaged_model(self.supernet, self.ema)
        assert isinstance(found, Supernet)
        return found

    def train(
        self,
        check: Callable[[], None],
        folder: Path,
        report: Callable[[SupernetProgress], None] = lambda _progress: None,
    ) -> None:
        """Train to the last step, from the newest valid checkpoint in `folder`.

        `check` is called before each step. Where it raises, the state is saved. Raises TrainingError when the loss is
        not finite.
        """
        self.restore(folder)
        saved = time.monotonic()

        def check_or_save() -> None:
            try:
                check()
            except BaseException:
                self._save(folder)
                raise

        for loss in self._train_steps(check_or_save):
            if self.step % CHECK_EVERY == 0 or self.step == self.steps:
                require_finite(loss.item(), self.step)
                self.history.append({"step": self.step, "loss": loss.item()})
                report(SupernetProgress(self.step, self.steps, loss.item()))
            if self.step == self.steps or time.monotonic() - saved > SAVE_EVERY:
                require_finite(loss.item(), self.step)
                self._save(folder)
                saved = time.monotonic()

    def _train_steps(self, check: Callable[[], None]) -> Iterator[Tensor]:
        """Train to the last step and yield the loss of each step's largest member."""
        epoch, step = divmod(self.step, self.sampler.steps_per_epoch)
        epochs = 1 + self.steps // self.sampler.steps_per_epoch
        batches = self.data.train_batches(self.sampler, epoch=epoch, step=step, epochs=epochs)
        while self.step < self.steps:
            check()
            images, labels = next(batches)
            yield self.train_step(images, labels)

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Train the members of the next step on a batch. Returns the loss of the largest one."""
        proxy, step = self.search.proxy, self.step + 1
        torch.manual_seed(fold_in(self.search.seed, step, self.distributed.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = proxy.lr * min(1.0, step / max(1, proxy.warmup_steps))
        chosen = members_of_step(self.members, self.settings, self.counts, seed=self.search.seed, step=step)
        loss = self._backward(chosen, images, labels)
        self.distributed.average_gradients(self.supernet)
        nn.utils.clip_grad_norm_(self.supernet.parameters(), CLIP_GRAD)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.supernet)
        self.step = step
        add_counts(self.counts, chosen)
        return loss

    def _backward(self, chosen: Sequence[SupernetMember], images: Tensor, labels: Tensor) -> Tensor:
        """Add up the gradients of the members, the largest first, whose predictions the others may be trained on."""
        targets, losses = labels, []
        for member in chosen:
            subnet = self.supernet.subnet(self.proxy_model(member.model)).train()
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32):
                logits = subnet(images)
                loss = F.cross_entropy(logits, targets)
            (loss / len(chosen)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            if self.settings.distill and targets is labels:
                targets = logits.detach().float().softmax(dim=1)
        return losses[0]

    def _save(self, folder: Path) -> None:
        """Write a checkpoint and metrics.jsonl; on a full disk, training continues."""
        if not self.distributed.is_main:
            return
        ema = None if self.ema is None else self.ema.module.state_dict()
        counts = {path: list(found.items()) for path, found in self.counts.items()}
        progress = {"done": self.step, "counts": counts, "history": self.history}
        state = {"optimizer": self.optimizer.state_dict()}
        checkpoint = Checkpoint(self.supernet.state_dict(), state, progress, ema)
        with contextlib.suppress(DiskError):
            save_checkpoint(folder / CHECKPOINTS, f"step-{self.step:08}", checkpoint)
            atomic_write(folder / METRICS, "".join(json.dumps(row) + "\n" for row in self.history))

    def restore(self, folder: Path) -> bool:
        """Load the newest valid checkpoint of a folder. Returns False where there is none."""
        try:
            newest, _ = find_latest_checkpoint(folder / CHECKPOINTS)
        except TrainingError:  # no checkpoint is valid: train from the start
            return False
        if newest is None:
            return False
        checkpoint = load_checkpoint(newest)
        self.supernet.load_state_dict(checkpoint.model)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.module.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.step, self.history = checkpoint.progress["done"], checkpoint.progress["history"]
        self.counts = {path: Counter(dict(map(tuple, found))) for path, found in checkpoint.progress["counts"].items()}
        return True
