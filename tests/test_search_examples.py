"""The search examples and the commands of docs/searching.md, tested without a cluster."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from t2tbuild import load_search_spec, load_spec
from t2tbuild.cli import app
from t2tbuild.cli.spec import is_override
from t2tbuild.nas.evaluator import Candidate
from t2tbuild.nas.store.url import VARIABLE, storage_url
from t2tbuild.spec import catalog
from tests.command import run_t2tbuild

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "examples" / "search.sbatch"
MANIFEST = ROOT / "examples" / "search.kubernetes.yaml"
PAGES = [ROOT / "docs" / "searching.md", ROOT / "docs" / "scaling.md"]


def commands() -> list[list[str]]:
    """Return every `t2tbuild search` command of the pages."""
    lines = [line for page in PAGES for line in re.findall(r"^ {4,}(t2tbuild search .*)$", page.read_text(), re.M)]
    return [shlex.split(line, comments=True) for line in lines]


def parse(words: list[str]) -> dict[str, Any]:
    """Parse a search command as the command line does, and return its parameters."""
    group: Any = typer.main.get_command(app)
    search = group.commands["search"]
    rest = words[words.index("search") + 1 :]
    name = rest.pop(0) if rest[0] in search.commands else next(iter(search.commands))
    parameters: dict[str, Any] = search.commands[name].make_context(name, rest).params
    return parameters


def test_the_pages_show_searches() -> None:
    assert len(commands()) >= 6


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_command_line_accepts_the_commands_of_the_pages(words: list[str]) -> None:
    given = parse(words)
    assert "run" in given or is_override(given["spec"]) or given["spec"] in catalog.names("search")
    assert ("search.trials=2000" in words) <= ("search.timeout=null" in words)  # the shipped timeout is a few minutes


def slurm(folder: Path, srun: str) -> subprocess.Popen[bytes]:
    """Start the script as Slurm would, with stubs of Slurm's commands that record their calls."""
    stubs = {"scontrol": 'echo "scontrol $*" >> calls', "srun": srun}
    for name, text in stubs.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    given = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", VARIABLE: "postgresql://me:hush@host/db"}
    environment = os.environ | given | {"PATH": f"{folder}:{os.environ['PATH']}"}
    arguments = ["deep_narrow", "runs/x", "search.trials=9"]
    return subprocess.Popen(["bash", SBATCH, *arguments], cwd=folder, env=environment)


def slurm_calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def test_a_task_at_its_time_limit_stops_its_worker_and_is_requeued(tmp_path: Path) -> None:
    process = slurm(tmp_path, 'echo "$*" > asked; trap "exit 143" TERM; while :; do sleep 0.1; done')
    until = time.monotonic() + 20
    while not (tmp_path / "asked").exists() or not (tmp_path / "asked").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)  # the stub sets its trap
    process.terminate()
    assert process.wait(20) == 143
    assert slurm_calls(tmp_path) == ["scontrol requeue 7_3"]
    given = parse(shlex.split((tmp_path / "asked").read_text()))
    assert (given["spec"], given["overrides"], given["workers"]) == ("deep_narrow", ["search.trials=9"], 1)


@pytest.mark.parametrize("code", [0, 1])
def test_a_task_that_ends_by_itself_is_not_requeued(tmp_path: Path, code: int) -> None:
    assert slurm(tmp_path, f"exit {code}").wait(20) == code
    assert slurm_calls(tmp_path) == []


def test_a_task_without_a_database_says_so(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    done = subprocess.run(
        ["bash", SBATCH, "deep_narrow", "x"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "name a database" in done.stderr


def test_the_manifests_workers_find_their_database() -> None:
    service, database, job = yaml.safe_load_all(MANIFEST.read_text())
    pod = job["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    given = parse([*worker["command"], *worker["args"]])
    assert (given["spec"], given["workers"]) == ("deep_narrow", 1)
    assert load_search_spec(given["spec"], given["overrides"]).search.timeout is None
    variables = {one["name"]: one for one in worker["env"]}
    url = storage_url(variables[VARIABLE]["value"], Path())
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert url == f"postgresql+psycopg://t2tbuild:$(PASSWORD)@{name}:{port}/searches"
    assert list(variables).index("PASSWORD") < list(variables).index(VARIABLE)  # Kubernetes needs this order
    (server,) = database["spec"]["template"]["spec"]["containers"]
    settings = {one["name"]: one for one in server["env"]}
    assert (settings["POSTGRES_USER"]["value"], settings["POSTGRES_DB"]["value"]) == ("t2tbuild", "searches")
    assert settings["POSTGRES_PASSWORD"]["valueFrom"] == variables["PASSWORD"]["valueFrom"]
    assert service["spec"]["selector"] == database["spec"]["template"]["metadata"]["labels"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert {mount["name"] for mount in worker["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def run_example(name: str, run: Path, workers: int) -> dict[str, Any]:
    """Run a search of examples/ in that folder, and return its report."""
    options = ["--workers", str(workers), "--out", str(run)]
    done = run_t2tbuild("search", f"{name}.yaml", *options, cwd=ROOT / "examples")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((run / "report.json").read_text())
    return report


@pytest.mark.slow
@pytest.mark.nightly
def test_a_search_with_an_evaluator_of_its_own(tmp_path: Path) -> None:
    report = run_example("own_evaluator", tmp_path / "run", workers=1)
    candidates = report["candidates"]
    assert (report["outcome"], len(candidates)) == ("complete", 4)
    assert {one["state"] for one in candidates} <= {"completed", "pruned"}
    assert all([rung["steps"] for rung in one["rungs"]] in ([40], [40, 80]) for one in candidates)
    assert all(one["macs"] <= 2_000_000 for one in candidates)
    base = [one for one in report["reference_runs"] if one["number"] == "base"]
    assert [len(one["rungs"]) for one in base] == [2, 2]
    assert base[0]["rungs"][1]["accuracy"] > 0.3  # it has learned
    assert "own_evaluator:evaluate" in report["trained_as"]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_search_that_asks_a_device(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = run_example("device_evaluator", tmp_path / "run", workers=1)
    candidates = report["candidates"]
    assert len(candidates) == 2
    assert {one["state"] for one in candidates} <= {"completed", "pruned"}
    assert all(0 < one["latency"] <= 0.2 for one in candidates)
    assert all(one["rungs"][-1]["accuracy"] > 0.15 for one in candidates)  # ten classes
    assert list((tmp_path / "run" / "front").glob("*.yaml"))


@pytest.mark.slow
def test_the_example_continues_from_its_checkpoint_to_the_same_result(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("own_evaluator", ROOT / "examples" / "own_evaluator.py")
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model, checks = load_spec(ROOT / "examples" / "digits_base.yaml").model, list[int]()

    def candidate(folder: str) -> Candidate:
        return Candidate(model, "1", 7, False, tmp_path / folder, lambda: checks.append(1))  # type: ignore[arg-type]

    example.evaluate(candidate("two calls"), 2)
    continued = example.evaluate(candidate("two calls"), 4)
    assert len(checks) == 4  # the first two steps are not repeated
    assert continued == example.evaluate(candidate("one call"), 4)
