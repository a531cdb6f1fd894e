"""The README tells the truth: commands, spec, table, mistakes and defaults are ours, its Python runs.

The outputs of the long commands (search, train) are copied from a real run by hand.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from t2tbuild.spec import ModelSpec
from t2tbuild.spec.diagnostics.yaml_source import read_text
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.weights import Weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)
    assert found
    return found


def test_the_first_two_commands_are_the_main_job_and_the_tests() -> None:
    search, tests, _ = (block.strip() for block in blocks("sh")[:3])
    assert search == "pip install uv && uv run t2tbuild search --budget-macs 5G"
    assert tests == "pip install uv && uv run pytest -n auto"
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith(tests)


def test_the_yaml_is_the_shipped_spec() -> None:
    shown = read_text(blocks("yaml")[0], "README.md").data
    shipped = read_text((ROOT / "specs" / "t2t_vit_14.yaml").read_text(), "shipped").data
    assert shown == shipped


def test_the_table_is_what_summarize_prints() -> None:
    command = [sys.executable, "-m", "t2tbuild", "summarize", "specs/t2t_vit_14.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    printed = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    assert blocks("text")[0].rstrip() == printed.rstrip()


def test_the_mistakes_are_told_as_shown(tmp_path: Path) -> None:
    text = (ROOT / "specs" / "t2t_vit_14.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(
        text.replace(" depth: 14", " dpeth: 14").replace("num_heads: 6", "num_heads: 5")
    )
    command = [sys.executable, "-m", "t2tbuild", "validate", "mine.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    shown = blocks("text")[1].splitlines()[1:]
    assert done.returncode == 2
    assert done.stdout.splitlines() == shown


def test_the_options_shown_are_options() -> None:
    backbone = read_text(blocks("yaml")[1], "README.md").data["backbone"]
    model = load_spec("t2t_vit_dense").model.model_dump() | {"backbone": backbone}
    assert ModelSpec.model_validate(model).backbone.out_dim == 584
    weights = read_text(blocks("yaml")[2], "README.md").data["weights"]
    assert Weights.model_validate(weights).reset_head


@pytest.mark.parametrize("table", [1, 6])
def test_the_papers_tables_are_what_compare_prints(table: int) -> None:
    command = [sys.executable, "-m", "t2tbuild", "compare", "--table", str(table), "--format", "markdown"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith(f"**Table {table} of the paper**")
    assert done.stdout.strip() in README


def test_what_the_readme_tells_of_timm_holds(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert "t2t_vit_14_se" in capsys.readouterr().out
    assert "[1, 384, 6, 6]" in README


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    predicted, measured, top1 = capsys.readouterr().out.splitlines()
    assert predicted == measured
    assert re.fullmatch(r"8\d\.\d% \(\d\d\.\d to \d\d\.\d\)", top1)
    assert load_spec("wide_screen.yaml").model.grids[-1] == (12, 16)


def test_the_defaults_named_are_the_shipped_ones() -> None:
    search = load_search_spec("deep_narrow").search
    assert f"`--trials {search.trials}`, `--timeout 5m`" in README
    assert search.timeout == 300
    assert f"`--seed {search.seed}`" in README
    assert "40, 100 and 200 training steps" in README
    assert search.proxy.rungs == (40, 100, 200)


def test_links_and_pictures_are_there() -> None:
    local = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert local
    assert all((ROOT / link).exists() for link in local)
