"""Members of a supernet on one device: evaluated with inherited weights, trained on, or trained alone."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.proxy import make_proxy_model
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.results import Start
from t2tbuild.spec.model import ModelSpec
from t2tbuild.training.device import pick_dtype
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import evaluate
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.seeds import fold_in

MEMORY_HINT = "a smaller batch_size or image_size may fit"


@dataclass(frozen=True)
class Training:
    """A training of a member to the last rung, from inherited or from randomly initialised weights."""

    start: Start
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """A member to evaluate with inherited weights, or with a `training`, to train."""

    model: ModelSpec
    training: Training | None = None

    @property
    def key(self) -> str:
        return key_of(self.model)


@dataclass(frozen=True)
class Measured:
    """Validation loss (nats) and accuracy (0 to 1) of a task, NaN where it failed, and its seconds of training."""

    loss: float
    accuracy: float
    seconds: float


class MemberEvaluator:
    """Performs tasks on one device. `folder` holds the checkpoints of trainings that have not ended.

    A task's result is a function of the task, the supernet and the search.
    """

    def __init__(self, evaluator: ProxyEvaluator, supernet: Supernet, folder: Path) -> None:
        self.evaluator, self.supernet, self.folder = evaluator, supernet, folder
        self.proxy, self.device = evaluator.search.proxy, evaluator.device

    def perform(self, task: Task, check: Callable[[], None]) -> Measured:
        """Return what was measured. `check` is called between steps and may raise.

        A model that fails, or runs out of memory, has NaN for a result.
        """
        started = time.perf_counter()
        try:
            with catch_out_of_memory(lambda: MEMORY_HINT):
                if task.training is None:
                    check()
                    return self._inherited(task.model)
                return self._train(task, task.training, check)
        except (T2TBuildError, RuntimeError, ValueError, ArithmeticError):
            return Measured(math.nan, math.nan, time.perf_counter() - started)

    def _inherited(self, model: ModelSpec) -> Measured:
        started = time.perf_counter()
        module = self.supernet.subnet(self._proxy_model(model))
        dtype = pick_dtype("auto", self.device)
        found = evaluate(module, self.evaluator.data, "validation", DistributedContext(self.device), dtype)
        return Measured(found.loss, found.accuracy, time.perf_counter() - started)

    def _train(self, task: Task, training: Training, check: Callable[[], None]) -> Measured:
        """Train to the last rung. A training that was interrupted continues from its last rung."""
        search = self.evaluator.search
        seed = fold_in(search.seed, int(task.key, 16), training.seed) % 2**32
        trainer = self.evaluator.trainer_of(task.model, self.proxy, seed=seed)
        if training.start == "inherited":
            trainer.start_from(self.supernet.extract(self._proxy_model(task.model)))
        folder = self.folder / f"{task.key}-{training.start}-{training.seed}"
        *_, last = rungs = list(trainer.train(check, folder))
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        return Measured(last.loss, last.accuracy, sum(rung.seconds for rung in rungs))

    def _proxy_model(self, model: ModelSpec) -> ModelSpec:
        return make_proxy_model(model, self.proxy, self.device.type)
