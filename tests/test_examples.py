"""The training examples and docs/scaling.md, tested without a cluster."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from torch.distributed.run import get_args_parser

from t2tbuild.cli import app
from t2tbuild.spec import catalog

ROOT = Path(__file__).parents[1]
SBATCH = ROOT / "examples" / "train.sbatch"
MANIFEST = ROOT / "examples" / "train.kubernetes.yaml"
PAGE = ROOT / "docs" / "scaling.md"


def words_of_the_page() -> Iterator[list[str]]:
    """Yield every command of the page; continuation lines are joined."""
    text = PAGE.read_text().replace("\\\n", " ")
    for line in re.findall(r"^    (\S.*)$", text, re.M):
        yield shlex.split(line)


def words_of_the_script() -> list[str]:
    """Return the command that srun starts, with arguments in place of the variables."""
    text = SBATCH.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^srun (.*) &$", text, re.M)
    values = {"$spec": "t2t_vit_14_imagenet", "$run": "runs/x", "${@:3}": "train.epochs=1", "$SLURM_NNODES": "2"}
    words = [values.get(word, word) for word in shlex.split(line)]
    return words[words.index("torchrun") :]


def job() -> dict[str, Any]:
    _, found = yaml.safe_load_all(MANIFEST.read_text())
    assert isinstance(found, dict)
    return found


def words_of_the_manifest() -> list[str]:
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]]


def commands() -> Iterator[list[str]]:
    yield from (words for words in words_of_the_page() if words[0] == "torchrun" or words[:2] == ["t2tbuild", "train"])
    yield words_of_the_script()
    yield words_of_the_manifest()


COMMANDS = list(commands())


def test_there_is_a_command_of_each_kind() -> None:
    assert len(COMMANDS) == 5
    assert sum(words[0] == "torchrun" for words in COMMANDS) == 3


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "torchrun"], ids=" ".join)
def test_torchrun_accepts_the_options(words: list[str]) -> None:
    parsed = get_args_parser().parse_args(words[1:])
    assert (parsed.module, parsed.training_script) == (True, "t2tbuild")
    assert parsed.training_script_args[0] == "train"
    assert parsed.nproc_per_node in ("8", "gpu")
    if parsed.nnodes != "1:1":
        assert (parsed.nnodes, parsed.rdzv_backend) == ("2", "c10d")
        assert parsed.rdzv_endpoint.endswith(":29500")
        assert parsed.rdzv_id != "none"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_t2tbuild_accepts_the_options_and_finds_the_spec(words: list[str]) -> None:
    rest = words[words.index("t2tbuild") + 1 :]
    group: Any = typer.main.get_command(app)
    command = group.commands[rest[0]]
    context = command.make_context("train", rest[1:])
    assert context.params["spec"] in catalog.names("training")
    assert "runs" in context.params["out"].parts
    assert all("=" in override for override in context.params["overrides"] or ())


def test_several_machines_share_the_run_and_resume() -> None:
    for words in COMMANDS:
        if any("rdzv" in word for word in words):
            assert re.search(r"--resume[ =]auto", " ".join(words))


def test_the_manifest_is_an_indexed_job_whose_pods_find_each_other() -> None:
    service, _ = yaml.safe_load_all(MANIFEST.read_text())
    spec = job()["spec"]
    pod = spec["template"]["spec"]
    name = job()["metadata"]["name"]
    parsed = get_args_parser().parse_args(words_of_the_manifest()[1:])
    assert (spec["completionMode"], str(spec["completions"])) == ("Indexed", parsed.nnodes)
    assert spec["parallelism"] == spec["completions"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert parsed.rdzv_endpoint == f"{name}-0.{pod['subdomain']}:29500"
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy needs it
    assert pod["terminationGracePeriodSeconds"] > 30  # torchrun waits as long for its processes
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


STUBS = {
    "scontrol": 'echo "scontrol $*" >> calls; [ "$1" = show ] && echo first && echo second; exit 0',
    "srun": 'echo "srun $*" >> calls; echo $$ > step; trap "exit 143" TERM; while :; do sleep 0.1; done',
    "scancel": 'echo "scancel $*" >> calls; kill -TERM "$(cat step)"',
}


def slurm(folder: Path, **stubs: str) -> subprocess.Popen[bytes]:
    """Start the script as Slurm would, with stubs of Slurm's commands that record their calls."""
    for name, text in (STUBS | stubs).items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    given = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_NODELIST": "m[1-2]"}
    environment = os.environ | given | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen(
        ["bash", SBATCH, "t2t_vit_7_digits", "runs/x", "train.epochs=1"], cwd=folder, env=environment
    )


def slurm_calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_bash_parses_the_script() -> None:
    done = subprocess.run(["bash", "-n", SBATCH], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_at_its_time_limit_saves_and_is_requeued(tmp_path: Path) -> None:
    process = slurm(tmp_path)
    until = time.monotonic() + 20
    while not (tmp_path / "step").exists() or not (tmp_path / "step").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)  # the stub sets its trap
    process.terminate()
    assert process.wait(20) == 143
    asked = slurm_calls(tmp_path)
    assert asked[0] == "scontrol show hostnames m[1-2]"
    assert "--rdzv-endpoint first:29500 --rdzv-id 7" in asked[1]
    assert asked[1].endswith("train t2t_vit_7_digits --out runs/x --resume auto train.epochs=1")
    assert asked[2:] == ["scancel --signal=TERM 7", "scontrol requeue 7"]


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_that_ends_by_itself_is_not_requeued(tmp_path: Path, code: int) -> None:
    assert slurm(tmp_path, srun=f"exit {code}").wait(20) == code
    assert slurm_calls(tmp_path) == ["scontrol show hostnames m[1-2]"]
