"""Rungs of proxy training: each is reached by going on from the one below, and judged on the validation split."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from t2tbuild.build import build_model
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Proxy
from t2tbuild.train.data import ImageData, batches
from t2tbuild.train.loop import evaluate, require_finite, train_step
from t2tbuild.train.optim import make_optimizer

CLIP_GRAD = 1.0


@dataclass(frozen=True)
class Rung:
    """What a candidate showed at a rung, after `steps` steps of training.

    Validation accuracy (0 to 1) and loss (nats), and the seconds of training since the rung below.
    """

    steps: int
    accuracy: float
    loss: float
    seconds: float


def climb(
    model: ModelSpec, data: ImageData, proxy: Proxy, *, seed: int, device: torch.device, check: Callable[[], None]
) -> Iterator[Rung]:
    """Train `model` from rung to rung; the caller stops by not asking for the next.

    Warm-up, then a constant rate, so that rungs compare. `check` is called before each step and may raise. Raises
    TrainingError when the loss is not finite.
    """
    torch.manual_seed(seed)
    built = build_model(model).to(device).train()
    optimizer = make_optimizer(built, lr=proxy.lr, weight_decay=proxy.weight_decay)
    stream = itertools.chain.from_iterable(
        batches(data, batch_size=proxy.batch_size, seed=seed, epoch=epoch) for epoch in itertools.count()
    )
    done = 0
    for rung in proxy.rungs:
        started = time.perf_counter()
        for images, labels in itertools.islice(stream, rung - done):
            check()
            done += 1
            for group in optimizer.param_groups:
                group["lr"] = proxy.lr * min(1.0, done / max(1, proxy.warmup_steps))
            loss = train_step(built, optimizer, images, labels, clip_grad=CLIP_GRAD)
        require_finite(loss.item(), done)
        seconds = time.perf_counter() - started
        result = evaluate(built, data.validation)
        require_finite(result.loss, done)
        yield Rung(done, result.accuracy, result.loss, seconds)
