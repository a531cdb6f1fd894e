"""The command line in real processes: exit codes, stdout and stderr."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import t2tbuild
from t2tbuild.cost import CONVENTION
from tests.command import run_t2tbuild

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "timm", "optuna", "fvcore", "sklearn", "matplotlib")
PROBE = f"""
import atexit, os, sys
atexit.register(lambda: sys.stderr.write("HEAVY " + ",".join(m for m in {HEAVY!r} if m in sys.modules) + "\\n"))
sys.argv[0] = "t2tbuild"
from t2tbuild.cli import main
main()
"""


def heavy_imports(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, cwd=ROOT)
    text, _, heavy = done.stderr.rpartition("HEAVY ")
    return done.returncode, done.stdout + text, heavy.strip()


ERRORS = [
    (["search", "--budget-macs", "5GB"], "--budget-macs: '5GB' reads as bytes, but MACs and parameters are counted"),
    (["search", "--budget-macs", "-5G"], "--budget-macs: a count must be above zero"),
    (["search", "--budget-macs", "0"], "--budget-macs: a count must be above zero"),
    (["search", "--budget-macs", "nan"], "--budget-macs: 'nan' is not a count; write for example 5G"),
    (["search", "--timeout", "soon"], "--timeout: 'soon' is not a time; write for example 5m"),
    (
        ["search", "--budget-macs", "1M"],
        "override 'search.budget.macs=1M': error: no candidate has 1.00M MACs or fewer; the smallest of the space has",
    ),
    (["search", "--timeout", "090h90"], "is not a time"),
    (["summarize", "t2t_vit_14", "model.backbone.depth=014"], "error: 014 has a leading zero"),
    (["summarize", "t2t_vit_14", "model.²=3"], "unknown key '²' in model"),
    (["summarize", "x" * 5000], "not a file name"),
    (
        ["train", "t2t_vit_7", "model.tokenizer.stages.0.patch_size=200", "model.tokenizer.stages.0.overlap=0"],
        "t2t_vit_7 cannot be trained on digits at 64 pixels: image_size 64 x 64 leaves no token at stage 0",
    ),
    (["compare"], "nothing to compare; name specs, or a table of the paper: t2tbuild compare --table 1"),
    (["compare", "t2t_vit_7", "--json", "--format", "csv"], "--json and --format csv"),
    (["summarize", "resnet50", "model.args={img_size: 32}"], "args cannot hold img_size"),
    (["compare", "t2t_vit_41"], "no such shipped name"),
    (["search", "status", "docs"], "docs: not the run directory of a search"),
    (["search", "resume", "docs"], "docs: not the run directory of a search"),
    (["search", "export", "docs"], "docs: not the run directory of a search"),
    (["search", "repair", "docs"], "docs: not the run directory of a search"),
    (["export", "t2t_vit_7", "--format", "onnx", "--out", "model.pt"], "--out model.pt: must end in .onnx"),
    (["export", "t2t_vit_7", "--weights", "nowhere.pth", "--out", "m.safetensors"], "nowhere.pth: no such file"),
    (["summarize", "t2t_vit_7", "model.backbone.ghost={}", "model.backbone.mlp_ratio=2.5"], "needs a whole mlp_ratio"),
    (["summarize", "t2t_vit_7", "model.kind=tim"], "must be one of 'timm', 'vit', got 'tim'"),
    (["search", "--out", "README.md"], "README.md is a file, not a folder"),
    (["train", "t2t_vit_7", "--out", "README.md/run"], "README.md is a file, not a folder"),
    (["search", "--out", "docs"], "docs: holds files but no spec.yaml of a run"),
    (["train", "t2t_vit_7", "--out", "docs"], "docs: holds files but no spec.yaml of a run"),
    (["summarize", ""], "the name is empty"),
    (["search", "--trials", "0"], "search.trials must be at least 1, got 0"),
    (["summarize", "t2t_vit_41"], "no such shipped name"),
    (["summarize", "t2t_vit_14", "model.backbone.depth=0"], "model.backbone.depth must be at least 1, got 0"),
    (["train", "t2t_vit_7", "train.eopchs=1"], "      |       ^^^^^^ did you mean 'epochs'?"),
    (["train", "search/deep_narrow.yaml"], "      | ^^^^^^ use it with t2tbuild search"),
    (["search", "specs/t2t_vit_7.yaml"], "      | ^^^^^ use it with t2tbuild summarize or train"),
    (["sumarize", "t2t_vit_14"], "No such command 'sumarize'"),
    (["tune", "t2t_vit_14"], "is started by: t2tbuild search"),
    (["resume", "docs"], "docs is no run; t2tbuild train RUN continues a training"),
    (["predict", "t2t_vit_7", "nowhere.png"], "'nowhere.png': no such file or folder"),
    (["predict", "t2t_vit_7", "tests/data"], "tests/data: a folder without images"),
    (["predict", "t2t_vit_7", "docs"], "no weights to predict with"),
    (["train"], "SPEC"),
    (["search", "search.evaluator=json:missing"], "the module json has no function missing"),
    (["search", "search.evaluator=pkg/mod.py:f"], "write pkg.mod:f"),
    (["search", "search.trials=0"], "search.trials must be at least 1, got 0"),
    (["show", "t2t_vit_7", "model.depth=3"], "it belongs in model.backbone"),
    (["cp", "t2t_vit_7", "README.md"], "README.md: exists already; choose another name, or add --force"),
    (["report", "nowhere"], "nowhere: no such folder"),
    (["report", "docs"], "docs: not a run of a training or a search: it has no spec.yaml"),
    (["init", "README.md"], "README.md: exists already; choose another name, or add --force"),
    (["init", "/proc/mine.yaml"], "/proc/mine.yaml: cannot be written"),
    (
        ["init", "nowhere.yaml", "--num-heads", "5"],
        "nowhere.yaml:19:16: error: embed_dim must be divisible by num_heads",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_an_error_ends_with_one_message_and_without_torch(arguments: list[str], message: str) -> None:
    status, err, heavy = heavy_imports(*arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert heavy == ""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["search", "--help"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    assert heavy_imports(*arguments)[0::2] == (0, "")


def test_help_needs_no_pydantic() -> None:
    """It takes a fifth of a second to import."""
    command = [sys.executable, "-X", "importtime", "-m", "t2tbuild", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "typer" in done.stderr
    assert "pydantic" not in done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, t2tbuild; assert not [m for m in {(*HEAVY, 'pydantic')!r} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_and_search_are_functions_after_the_import_of_a_module_of_training() -> None:
    importlib.import_module("t2tbuild.training.loop")
    assert inspect.isfunction(t2tbuild.train)
    assert inspect.isfunction(t2tbuild.search)
    assert next(iter(inspect.signature(t2tbuild.train).parameters)) == "spec"


@pytest.mark.slow
def test_summarize_prints_every_part_and_the_papers_figures() -> None:
    done = run_t2tbuild("summarize", "specs/t2t_vit_14.yaml", cwd=ROOT)
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("soft split 1", "token performer 2", "projection", "backbone blocks x 14", "head", "14 x 14"):
        assert word in done.stdout
    for figure in ("21,545,550", "21,465,806", "4,800,254,784", "paper, Table 1", "21.5M", "4.80G", "81.5%"):
        assert figure in done.stdout


@pytest.mark.slow
def test_summarize_json() -> None:
    done = run_t2tbuild("summarize", "t2t_vit_14", "model.image_size=[192, 256]", "--json")
    data = json.loads(done.stdout)
    assert data["name"] == "t2t_vit_14"
    assert data["image_size"] == [192, 256]
    assert data["convention"] == CONVENTION
    assert data["paper"] == []  # the paper's figures are for another image size
    assert json.loads(run_t2tbuild("summarize", "t2t_vit_14", "--json").stdout)["paper"][0]["macs"] == 4_800_000_000
    assert sum(part["macs"] for part in data["parts"]) == data["macs"]
    assert sum(part["params"] for part in data["parts"]) == data["params"]
    assert data["parts"][0] == {
        "name": "soft split 1 (7x7, overlap 3)",
        "grid": [48, 64],
        "tokens": 48 * 64,
        "channels": 147,
        "params": 0,
        "trainable_params": 0,
        "macs": 0,
        "parts": [],
    }


@pytest.mark.slow
def test_train_leaves_a_run_and_names_the_next_command(tmp_path: Path) -> None:
    tiny = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=2"]
    done = run_t2tbuild("train", "t2t_vit_7", *tiny, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    command = "t2tbuild evaluate run && t2tbuild predict run IMAGE.jpg && t2tbuild export run --out run/model.onnx"
    assert done.stdout.splitlines()[-1] == f"next: {command}"
    assert "epoch 2/2  loss" in done.stderr
    assert "images/s" in done.stderr and "ETA" in done.stderr
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left >= {"spec.yaml", "environment.json", "metrics.jsonl", "checkpoints", "curves.png"}
    assert run_t2tbuild("summarize", "run/spec.yaml", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_train_without_out_makes_a_folder_below_runs(tmp_path: Path) -> None:
    tiny = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=1"]
    done = run_t2tbuild("train", "t2t_vit_7", *tiny, "--json", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["run"].startswith("runs/t2t_vit_7-")
    assert (tmp_path / result["run"] / "curves.png").exists()
    assert 0 <= result["test_accuracy"] <= 1


@pytest.mark.slow
def test_compare_needs_no_torch_without_timm_models() -> None:
    assert heavy_imports("compare", "--table", "1")[0::2] == (0, "")
    done = run_t2tbuild(
        "compare", "t2t_vit_14", "specs/t2t_vit_dense.yaml", "--sort", "macs", "--pareto", "--json", cwd=ROOT
    )
    rows = json.loads(done.stdout)
    assert [row["model"] for row in rows] == ["t2t_vit_14", "t2t_vit_dense"]
    assert rows[0]["front"]
    assert rows[0]["macs"] == 4_800_254_784
    assert rows[1]["macs_off_percent"] == -3.71
    deeper = ["t2t_vit_14", "model.backbone.depth=20", "t2t_vit_14", "model.backbone.depth=21"]
    done = run_t2tbuild("compare", *deeper, "--json", cwd=ROOT)
    assert [row["model"] for row in json.loads(done.stdout)] == ["t2t_vit_14 depth=20", "t2t_vit_14 depth=21"]


@pytest.mark.slow
def test_compare_counts_timm_models_and_names_missing_ones() -> None:
    done = run_t2tbuild("compare", "--table", "6", "--format", "csv")
    assert done.returncode == 0
    assert "counting wide_resnet18" in done.stderr
    assert "wide_resnet18,,6,25875816," in done.stdout
    assert "resnet50_ghost,,6,,19900000,,,3200000000,,76.2" in done.stdout
    assert len(done.stdout.splitlines()) == 1 + 19


@pytest.mark.slow
def test_export_writes_the_trained_weights(tmp_path: Path) -> None:
    tiny = ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1", "train.batch_size=512"]
    assert run_t2tbuild("train", "t2t_vit_7", *tiny, "--out", "run", cwd=tmp_path).returncode == 0
    done = run_t2tbuild("export", "run/spec.yaml", "--weights", "run", "--out", "out/m.safetensors", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "weights of run\n")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    own = run_t2tbuild(
        "export",
        "run/spec.yaml",
        "--weights",
        f"local-dir:{checkpoint.relative_to(tmp_path)}",
        "--out",
        "o.safetensors",
        cwd=tmp_path,
    )
    assert own.returncode == 0, own.stderr
    unnamed = run_t2tbuild("export", "run/spec.yaml", "--out", "u.safetensors", cwd=tmp_path)
    assert (unnamed.returncode, unnamed.stderr) == (0, f"weights of {checkpoint.relative_to(tmp_path)}\n")
    learned, named = load_file(tmp_path / "u.safetensors"), load_file(tmp_path / "o.safetensors")
    assert learned.keys() == named.keys()
    assert all(torch.equal(learned[key], named[key]) for key in learned)
    assert done.stdout.startswith("t2t_vit_7: written to out/m.safetensors as safetensors, 3.4 MB; loaded again")
    fresh = run_t2tbuild("export", "t2t_vit_7", "model.image_size=32", "--out", "fresh.safetensors", cwd=tmp_path)
    assert "randomly initialised" in fresh.stderr
    wrong = run_t2tbuild("export", "t2t_vit_7", "--weights", "run", "--out", "wrong.safetensors", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "missing (" in wrong.stderr
    assert not (tmp_path / "wrong.safetensors").exists()


@pytest.mark.nightly
@pytest.mark.slow
def test_timm_models_are_summarized_and_trained(tmp_path: Path) -> None:
    done = run_t2tbuild("summarize", "resnet50", "model.image_size=64", "--json")
    record = json.loads(done.stdout)
    assert record["params"] == 25_557_032
    assert sum(part["macs"] for part in record["parts"]) == record["macs"]
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet10t}\n")
    tiny = ["train.epochs=1", "train.data.image_size=32"]
    done = run_t2tbuild("train", "mine.yaml", *tiny, "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test_accuracy"] > 0.15
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: {kind: timm, name: resnet5O}\n")
    done = run_t2tbuild("summarize", "mine.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "mine.yaml:2:27: error: timm" in done.stderr
    assert "has no model 'resnet5O'" in done.stderr
    assert "      |                           ^^^^^^^^ did you mean resnet50" in done.stderr
    (tmp_path / "search.yaml").write_text(
        "version: 1\nsearch:\n  base: resnet50\n  budget: {macs: 5G}\n  space: {backbone.depth: {choices: [1, 2]}}\n"
    )
    done = run_t2tbuild("search", "search.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "resnet50 is a timm model, which has no fields to search" in done.stderr
