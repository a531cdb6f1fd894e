"""Rungs of proxy training: each is reached by going on from the one below, and judged on the validation split."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from t2tbuild.build import build_model
from t2tbuild.search.record import Rung
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Proxy
from t2tbuild.train.data import Data
from t2tbuild.train.loop import CHECK_EVERY, evaluate, require_finite, train_step
from t2tbuild.train.objective import Classification
from t2tbuild.train.optim import make_optimizer
from t2tbuild.train.order import Order
from t2tbuild.train.precision import pick_dtype
from t2tbuild.train.ranks import Ranks

CLIP_GRAD = 1.0


def goes_on(accuracy: float, peers: Sequence[float], keep: int) -> bool:
    """Whether a candidate climbs on from a rung: it is among the best one in `keep` of those that reached it so far.

    Asynchronous successive halving (Li et al., MLSys 2020): nobody waits for a rung to fill. `peers` are the accuracies
    of the earlier ones. The first candidates, with fewer than `keep` to compare, climb on when none was better.
    """
    better = sum(peer > accuracy for peer in peers)
    return better < max(1, (len(peers) + 1) // keep)


def climb(
    model: ModelSpec, data: Data, proxy: Proxy, *, seed: int, device: torch.device, check: Callable[[], None]
) -> Iterator[Rung]:
    """Train `model` from rung to rung; the caller stops by not asking for the next.

    Warm-up, then a constant rate, so that rungs compare. `check` is called before each step and may raise. Raises
    TrainingError when the loss is not finite.
    """
    torch.manual_seed(seed)
    built = build_model(model).to(device).train()
    optimizer = make_optimizer(built, lr=proxy.lr, weight_decay=proxy.weight_decay)
    objective, dtype = Classification(built, label_smoothing=0.0), pick_dtype("auto", device)
    order = Order(data.size("train"), proxy.batch_size, seed)
    stream = data.training(order, epoch=0, step=0, epochs=1 + proxy.rungs[-1] // order.steps)
    done = 0
    for rung in proxy.rungs:
        started = time.perf_counter()
        for images, labels in itertools.islice(stream, rung - done):
            check()
            done += 1
            for group in optimizer.param_groups:
                group["lr"] = proxy.lr * min(1.0, done / max(1, proxy.warmup_steps))
            loss = train_step(objective, built, optimizer, images, labels, dtype=dtype, clip_grad=CLIP_GRAD)
            if done % CHECK_EVERY == 0:
                require_finite(loss.item(), done)
        seconds = time.perf_counter() - started
        result = evaluate(built, data, "validation", Ranks(device), dtype)
        require_finite(result.loss, done)
        yield Rung(done, result.accuracy, result.loss, seconds)
