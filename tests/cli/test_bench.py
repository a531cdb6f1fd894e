"""t2tbuild bench: real runs of small models; no test asserts how fast they are."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from t2tbuild import load_spec, predict_cost
from t2tbuild.bench import benchmark as cost_bench
from t2tbuild.bench.benchmark import BenchConfig, BenchModel, benchmark_models
from t2tbuild.cli import app
from t2tbuild.errors import CostError, InputError

SMALL = ["t2t_vit_7", "model.image_size=64", "model.backbone.depth=2"]
DEEPER = ["t2t_vit_7", "model.image_size=64", "model.backbone.depth=3"]
QUICK = ["--seconds", "0", "--rounds", "3", "--batch-size", "2", "--threads", "1", "--device", "cpu"]
PROBE = """
import atexit, sys
heavy = ("torch", "timm", "matplotlib", "fvcore", "sklearn")
atexit.register(lambda: sys.stderr.write("HEAVY " + ",".join(m for m in heavy if m in sys.modules)))
sys.argv[0] = "t2tbuild"
from t2tbuild.cli import main
main()
"""


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("t2tbuild.bench.peak_flops.SIZES", {"cpu": (32, 64)})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments, *QUICK])


def records(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    record: dict[str, Any] = json.loads(done.stdout)
    return record


@pytest.mark.slow
def test_the_figures_of_json_agree_with_each_other(tmp_path: Path) -> None:
    record = records(*SMALL, *DEEPER, *DEEPER, "--plot", str(tmp_path / "latency.svg"))
    assert (record["device"], record["threads"], record["torch"]) == ("cpu", 1, torch.__version__)
    assert (record["precision"], record["batch_size"], record["compiled"], record["training"]) == (
        "float32",
        2,
        False,
        False,
    )
    models = record["models"]
    small, deeper = " ".join(SMALL), " ".join(DEEPER)
    assert [one["name"] for one in models] == [small, f"{deeper} #1", f"{deeper} #2"]
    for one, typed in zip(models, (SMALL, DEEPER, DEEPER), strict=True):
        cost = predict_cost(load_spec(typed[0], typed[1:]).model)
        assert (one["params"], one["macs"], one["rounds"]) == (cost.params, cost.macs, 3)
        assert 0 < one["p5_seconds"] <= one["median_seconds"] <= one["p95_seconds"]
        assert one["images_per_second"] * one["median_seconds"] == pytest.approx(2)
        assert one["ratio"] == pytest.approx(one["images_per_second"] / models[0]["images_per_second"])
        flops = 2 * one["macs"] * 2 / one["median_seconds"]
        assert one["share_of_peak"] == pytest.approx(flops / record["matmul_peak_flops_per_second"])
        assert one["peak_memory_bytes"] > 4 * cost.params + 4 * 2 * 3 * 64 * 64
    assert models[1]["peak_memory_bytes"] == models[2]["peak_memory_bytes"] > models[0]["peak_memory_bytes"]
    assert (tmp_path / "latency.svg").exists()


@pytest.mark.slow
def test_training_counts_the_backward_pass_and_the_memory_of_gradients_and_moments() -> None:
    record = records(*SMALL, "--train", "--precision", "bfloat16")
    (one,) = record["models"]
    assert (record["training"], record["precision"], one["name"]) == (True, "bfloat16", " ".join(SMALL))
    assert one["peak_memory_bytes"] > 4 * 4 * one["params"] * 0.95  # frozen position tables have no gradient
    flops = 3 * 2 * one["macs"] * 2 / one["median_seconds"]
    assert one["share_of_peak"] == pytest.approx(flops / record["matmul_peak_flops_per_second"])


def test_the_table_has_a_row_for_a_timm_model(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet10t, image_size: 64}\n")
    done = bench(*SMALL, str(tmp_path / "theirs.yaml"))
    assert done.exit_code == 0, done.exception
    assert "inference, batch 2, float32, on " in done.stdout
    assert ", 1 thread\n" in done.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    rows = [row for row in rows if row[1]]  # a long name takes two lines
    assert [row[0].split()[0] for row in rows] == ["t2t_vit_7", "resnet10t"]
    assert rows[0][6] == "1.00"
    assert "resnet10t: first run, peak memory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t2t_vit_41"], "no such shipped name"),
        (["t2t_vit_7", "model.backbone.depth=0"], "model.backbone.depth must be at least 1, got 0"),
        (["t2t_vit_7", "--device", "gpu"], "--device: must be cpu, cuda or cuda:NUMBER, got 'gpu'"),
        (["t2t_vit_7", "--precision", "float8"], "float32"),
        (["t2t_vit_7", "--batch-size", "0"], "--batch-size"),
        (["t2t_vit_7", "--seconds", "inf"], "--seconds"),
        (["t2t_vit_7", "--plot", "latency.jpg"], "--plot latency.jpg: must end in .png, .svg, .pdf"),
        (["t2t_vit_7", "--plot", "nowhere/latency.png"], "the folder nowhere does not exist"),
        (["t2t_vit_7", "--train", "--precision", "float16"], "needs scaled gradients"),
        ([], "SPEC"),
    ],
)
def test_an_error_is_reported_without_torch(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, "bench", *arguments], capture_output=True, text=True)
    text, _, heavy = done.stderr.rpartition("HEAVY ")
    assert (done.returncode, heavy) == (2, "")
    assert message in text
    assert "Traceback" not in text


def test_help_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, "bench", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "HEAVY ")
    assert "--batch-size" in done.stdout


@pytest.mark.parametrize("device", ["cuda:99", "cpu:1"])
def test_a_missing_device_is_reported_with_the_available_ones(device: str) -> None:
    done = CliRunner().invoke(app, ["bench", *SMALL, "--device", device])
    assert isinstance(done.exception, InputError)
    assert "cpu" in str(done.exception)


def test_more_threads_than_cores_are_refused() -> None:
    done = CliRunner().invoke(app, ["bench", *SMALL, "--threads", "100000"])
    assert isinstance(done.exception, InputError)
    assert "--threads 100000: this machine has" in str(done.exception)


def test_out_of_memory_ends_with_one_message() -> None:
    done = CliRunner().invoke(
        app, ["bench", *SMALL, "model.image_size=2048", "--batch-size", str(2**20), "--device", "cpu"]
    )
    assert isinstance(done.exception, CostError)
    assert ": out of memory on cpu; a --batch-size below 1048576" in str(done.exception)


def subject(module: nn.Module) -> BenchModel:
    return BenchModel("mine", module, (3, 8, 8), 10, params=1, macs=1)


class _Raising(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, _images: torch.Tensor) -> torch.Tensor:
        raise self.error


class _CompilerError(RuntimeError):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "out of memory on cpu; a --batch-size below 2",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "mine: out of memory on cpu"),
        (_CompilerError("no g++\nmuch more"), "mine: torch cannot compile it here: no g[+][+]; leave out --compile"),
        (ValueError("Expected more than 1 value per channel"), "mine: cannot run a batch of 2: Expected more than 1"),
    ],
)
def test_errors_of_a_model_name_it(error: Exception, message: str) -> None:
    config = BenchConfig(torch.device("cpu"), 2, torch.float32, compiled=False, training=False)
    with pytest.raises(CostError, match=message):
        benchmark_models([subject(_Raising(error))], config, seconds=0, rounds=1)


def test_other_errors_are_raised_unchanged() -> None:
    config = BenchConfig(torch.device("cpu"), 2, torch.float32, compiled=False, training=False)
    with pytest.raises(RuntimeError, match="shapes"):
        benchmark_models([subject(_Raising(RuntimeError("shapes")))], config, seconds=0, rounds=1)


def test_each_compiled_model_is_compiled_for_its_own_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def compile_(model: nn.Module, **options: object) -> nn.Module:
        asked.append(options)
        return model

    monkeypatch.setattr(cost_bench.torch, "compile", compile_)
    record = records(*SMALL, "--compile")
    assert record["compiled"]
    assert asked == [{"dynamic": False}]
