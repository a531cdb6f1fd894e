"""t2tbuild doctor: each check is isolated, and packages are imported in processes of their own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from t2tbuild.cli import app, doctor_checks
from t2tbuild.cli.doctor_checks import Finding, Status, check_packages, check_settings, probe_imports, run_checks
from t2tbuild.cli.doctor_probe import MODEL, probe

HEALTHY: dict[str, Any] = {"error": ""}


def test_a_module_that_raises_or_ends_its_process_is_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "d_fine": "print('hello')",
        "d_raises": "raise OSError('libcudart.so.12: cannot open')",
        "d_exits": "import os; os._exit(3)",
        "d_killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "d_after": "raise SystemExit(5)",
        "d_last": "",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {name: report["error"] for name, report in probe_imports([*modules, "d_absent"]).items()}
    assert found == {
        "d_fine": "",
        "d_raises": "OSError: libcudart.so.12: cannot open",
        "d_exits": "the process ended with exit code 3",
        "d_killed": "the process was ended by signal SIGKILL",
        "d_after": "SystemExit: 5",
        "d_last": "",
        "d_absent": "ModuleNotFoundError: No module named 'd_absent'",
    }


def test_a_module_that_hangs_is_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d_hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe_imports(["d_hangs", "json"], seconds=0.5)
    assert found == {"d_hangs": {"error": "took more than 0.5 seconds"}, "json": {"done": "json", "error": ""}}


def test_the_probe_finds_torch_s_devices_and_runs_a_model() -> None:
    found = probe("torch")
    assert found["devices"][0]["name"] == "cpu"
    assert not any(device["error"] for device in found["devices"])
    assert probe(MODEL) == {}


def test_a_check_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Iterator[Finding]:
        yield Finding("one", "first", Status.OK)
        raise RuntimeError("boom")

    def works() -> Iterator[Finding]:
        yield Finding("two", "second", Status.MISSING)

    monkeypatch.setattr(doctor_checks, "CHECKS", {"one": fails, "two": works})
    assert [(one.name, one.status, one.message) for one in run_checks()] == [
        ("first", Status.OK, ""),
        ("the check itself", Status.BROKEN, "RuntimeError: boom"),
        ("second", Status.MISSING, ""),
    ]


def test_versions_extras_and_devices_are_rated(monkeypatch: pytest.MonkeyPatch) -> None:
    required = {"torch": ">=2.10", "timm": ">=1.0.20", "optuna": ">=5.0", "rich": ">=13.9"}
    extras = {"onnx": {"onnx": ">=1.18"}, "wandb": {"wandb": ">=0.19"}, "dev": {"pytest": ">=8"}}
    versions = {"torch": "2.12.0+cu130", "timm": "1.0.9", "rich": "14.0", "onnx": "1.20", "pytest": "8.4"}
    gpu = {"name": "cuda:0", "label": "H200, 141 GB", "error": "RuntimeError: no kernel image"}
    reports = {
        "torch": HEALTHY | {"devices": [{"name": "cpu", "label": "2 threads", "error": ""}, gpu], "cuda": "13.0"},
        "timm": HEALTHY,
        "rich": {"error": "SyntaxError: bad"},
        "onnx": HEALTHY,
        MODEL: HEALTHY,
    }
    asked: list[str] = []
    monkeypatch.setattr(doctor_checks, "read_requirements", lambda: (required, extras))
    monkeypatch.setattr(doctor_checks, "_version_of", versions.get)
    monkeypatch.setattr(doctor_checks, "probe_imports", lambda modules: asked.extend(modules) or reports)
    found = {one.name: one for one in check_packages()}
    assert set(asked) == {"torch", "timm", "rich", "onnx", MODEL}  # none of those that are absent, or of the tests
    statuses = {name: str(one.status) for name, one in found.items()}
    assert statuses == {
        "torch": "ok",
        "timm": "broken",
        "optuna": "broken",
        "rich": "broken",
        "a model": "ok",
        "onnx": "ok",
        "wandb": "missing",
        "dev": "ok",
        "cpu": "ok",
        "cuda:0": "broken",
    }
    assert "pip install 'timm>=1.0.20'" in found["timm"].message
    assert "pip install 't2tbuild[wandb]'" in found["wandb"].message
    assert "SyntaxError: bad" in found["rich"].message
    assert "no kernel image" in found["cuda:0"].message


def test_settings_are_checked_and_passwords_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("T2TBUILD_DEVICE", "gpu")
    monkeypatch.setenv("T2TBUILD_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("T2TBUILD_STORAGE", "postgresql://me:hush@host/db")
    found = {one.name: one for one in check_settings()}
    assert found["T2TBUILD_DEVICE"].status is found["T2TBUILD_DATA"].status is Status.BROKEN
    assert found["T2TBUILD_STORAGE"].status is Status.OK
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("variable", "right", "wrong"),
    [
        ("T2TBUILD_CACHE", "not/there/yet", __file__),
        ("T2TBUILD_OFFLINE", "1", "offline"),
        ("T2TBUILD_RELEASES", "https://me:hush@mirror/weights", "s3://bucket"),
        ("T2TBUILD_RELEASES", str(Path(__file__).parent), "no/such/folder"),
        ("T2TBUILD_ALLOW_COMMAND", "1", "./measure.sh"),
    ],
)
def test_each_setting_is_checked(monkeypatch: pytest.MonkeyPatch, variable: str, right: str, wrong: str) -> None:
    for value, status in ((right, Status.OK), (wrong, Status.BROKEN)):
        monkeypatch.setenv(variable, value)
        (found,) = [one for one in check_settings() if one.name == variable]
        assert found.status is status
        assert "hush" not in found.value


def test_the_exit_code_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("machine", "sqlite", Status.OK, "3.50"), Finding("tools", "browser", Status.MISSING)]
    monkeypatch.setattr(doctor_checks, "run_checks", lambda: findings)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (0, True)
    assert CliRunner().invoke(app, ["doctor"]).stdout.endswith("nothing is wrong\n")
    findings.append(Finding("packages", "torch", Status.BROKEN, "2.9", "t2tbuild needs >=2.10"))
    wrong = CliRunner().invoke(app, ["doctor", "--json"])
    assert (wrong.exit_code, json.loads(wrong.stdout)["ok"]) == (1, False)
    assert "  broken: torch: t2tbuild needs >=2.10" in CliRunner().invoke(app, ["doctor"]).stdout


def test_a_folder_where_no_database_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_checks.tempfile, "TemporaryDirectory", refuse)
    monkeypatch.chdir(tmp_path)
    (found,) = (one for one in doctor_checks.check_machine() if one.name == "sqlite")
    assert found.status is Status.BROKEN
    assert str(tmp_path) in found.message
