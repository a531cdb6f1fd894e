"""A proxy training continues from its last rung to the same bits."""

from pathlib import Path

import pytest
import torch

from t2tbuild.layout import Grid
from t2tbuild.nas.proxy_training import ProxyTrainer
from t2tbuild.nas.record import Rung
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.data import DigitsData
from t2tbuild.spec.proxy import Proxy
from t2tbuild.training.data import Data, load_data

PROXY = Proxy(
    data=DigitsData(image_size=32),
    rungs=(2, 4, 25),
    ema=0.9,
    batch_size=64,
    evaluations=2,
    evaluate_every=2,
    warmup_steps=3,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(PROXY.data, image=Grid(32, 32), in_chans=3, device=CPU)


def seen(rungs: list[Rung]) -> list[tuple[int, float, float]]:
    return [(rung.steps, rung.accuracy, rung.loss) for rung in rungs]


class StoppedError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 3, 5, 22])
def test_a_training_goes_on_from_its_last_rung(small: ModelSpec, digits: Data, tmp_path: Path, stop_at: int) -> None:
    """Stopped before a step, it continues from the rung below, across the end of an epoch of 19 steps."""

    def trainer() -> ProxyTrainer:
        return ProxyTrainer(small, digits, PROXY, seed=3, device=CPU)

    whole = trainer()
    wanted = list(whole.train(lambda: None))
    steps = 0

    def check() -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        list(trainer().train(check, tmp_path))
    again, before = trainer(), steps
    assert seen(list(again.train(check, tmp_path))) == seen(wanted)
    below = max([rung for rung in (0, 2, 4) if rung < before])
    assert steps - before == 25 - below
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key


def test_a_corrupt_rung_is_trained_again(small: ModelSpec, digits: Data, tmp_path: Path) -> None:
    first = ProxyTrainer(small, digits, PROXY, seed=3, device=CPU)
    rungs = first.train(lambda: None, tmp_path)
    next(rungs)
    (file,) = tmp_path.glob("*/model.safetensors")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    second = ProxyTrainer(small, digits, PROXY, seed=3, device=CPU)
    assert not second.restore(tmp_path)
    assert seen([next(second.train(lambda: None, tmp_path))]) == seen(first.rungs)


def test_a_rung_is_the_mean_of_its_evaluations() -> None:
    assert PROXY.evaluation_steps(25) == (23, 25)
    assert Proxy(rungs=[40, 100, 300], evaluations=6, evaluate_every=20).evaluation_steps(300) == (
        200,
        220,
        240,
        260,
        280,
        300,
    )
    assert Proxy(rungs=[40, 100, 300], evaluations=6, evaluate_every=20).evaluation_steps(100) == (
        60,
        80,
        100,
    )  # 40 is the rung below
    assert Proxy(rungs=[40, 100, 300], evaluations=6, evaluate_every=20).evaluation_steps(40) == (20, 40)


def test_the_rate_of_another_depth(small: ModelSpec, digits: Data) -> None:
    deep = Proxy(data=PROXY.data, lr=1e-3, lr_depth=8)
    assert ProxyTrainer(small, digits, deep, seed=0, device=CPU).lr == pytest.approx(2e-3)
