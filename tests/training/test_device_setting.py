"""T2TBUILD_DEVICE: the device where none is named, in all that picks devices."""

import pytest
import torch

from t2tbuild.errors import InputError
from t2tbuild.nas.supervisor import default_workers
from t2tbuild.training.device import pick_device
from t2tbuild.training.launch import require_gpus


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four GPUs and two cores."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1}, raising=False)


@pytest.mark.parametrize(("variable", "workers"), [("", 4), ("cuda", 4), ("cuda:1", 1), ("cpu", 2)])
def test_workers_of_a_search(variable: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_DEVICE", variable)
    assert default_workers() == workers
    assert default_workers("cuda") == 4


def test_processes_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_DEVICE", "cpu")
    require_gpus(9, None)
    with pytest.raises(InputError, match="this machine has 4 GPUs"):
        require_gpus(9, "cuda")
    monkeypatch.setenv("T2TBUILD_DEVICE", "cuda:1")
    with pytest.raises(InputError, match="T2TBUILD_DEVICE names cuda:1"):
        require_gpus(2, None)
    require_gpus(2, "cuda")


def test_an_empty_variable_names_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2TBUILD_DEVICE", "")
    require_gpus(4, None)
    assert pick_device() == torch.device("cuda")
