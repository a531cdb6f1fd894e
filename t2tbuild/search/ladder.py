"""Rungs of proxy training: each is reached by going on from the one below, and judged on the validation split."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from t2tbuild.build import build_model
from t2tbuild.search.record import Rung
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Proxy
from t2tbuild.train.data import ImageData, batches
from t2tbuild.train.loop import CHECK_EVERY, evaluate, require_finite, train_step
from t2tbuild.train.optim import make_optimizer

CLIP_GRAD = 1.0


def goes_on(accuracy: float, peers: Sequence[float], keep: int) -> bool:
    """Whether a candidate climbs on from a rung: it is among the best one in `keep` of those that reached it so far.

    Asynchronous successive halving (Li et al., MLSys 2020): nobody waits for a rung to fill. `peers` are the accuracies
    of the earlier ones. The first candidates, with fewer than `keep` to compare, climb on when none was better.
    """
    better = sum(peer > accuracy for peer in peers)
    return better < max(1, (len(peers) + 1) // keep)


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
            if done % CHECK_EVERY == 0:
                require_finite(loss.item(), done)
        seconds = time.perf_counter() - started
        result = evaluate(built, data.validation)
        require_finite(result.loss, done)
        yield Rung(done, result.accuracy, result.loss, seconds)
