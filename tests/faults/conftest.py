"""Commands under attack, a run of random weights, and a limit on memory and time."""

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from t2tbuild import build_model, load_spec, manifest, predict_cost, search
from t2tbuild.spec.write import write_spec
from tests.faults.attack import Attack
from tests.faults.invariants import no_harm  # noqa: F401
from tests.nas.conftest import FakeTrainer, fake_trainer, postgresql, tiny_search  # noqa: F401

SECONDS, MORE_BYTES = 60, 3_000_000_000
SMALL = ["model.image_size=32", "model.num_classes=3", "model.backbone={depth: 1, embed_dim: 32, num_heads: 2}"]


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Attack:
    return Attack(monkeypatch, capsys)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Within this test an allocation of gigabytes fails, and a hang ends the test."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, limits[1]))
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A run of a stranger: RUN/spec.yaml and RUN/checkpoints/step-000000001 with random weights of three classes."""
    torch.manual_seed(0)
    spec = load_spec("t2t_vit_7", SMALL)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000000001"
    checkpoint.mkdir(parents=True)
    write_spec(spec, tmp_path / "run" / "spec.yaml")
    save_file(build_model(spec.model).state_dict(), checkpoint / "model.safetensors")
    manifest.write_manifest(checkpoint, ["model.safetensors"])
    return tmp_path / "run"


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete search in a folder of its own, which no test changes."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2tbuild.nas.proxy_evaluator.ProxyTrainer", FakeTrainer)
        patch.setattr("t2tbuild.nas.evaluator.count_model", predict_cost)
        search(tiny_search(folder, "search.trials=4", "search.zero_cost.names=[]"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(complete: Path, tmp_path: Path) -> Path:
    """A copy of the complete search, for one test."""
    return shutil.copytree(complete, tmp_path / "run")
