"""README.md and the guides in docs/: their specs, tables, errors and defaults are correct, and their Python runs.

The outputs of the long commands (search, train, bench) are copied from a real run by hand.
"""

import re
import subprocess
from pathlib import Path

import pytest

from t2tbuild.spec import ModelSpec
from t2tbuild.spec.diagnostics.yaml_source import read_text
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.weights import Weights
from tests.command import run_t2tbuild
from tests.documents import README, ROOT, code_blocks, read_page

MODELS, PYTHON, DEPLOY = (ROOT / "docs" / name for name in ("models.md", "python.md", "deploy.md"))
FIRST_SEARCH = ROOT / "docs" / "first_search.md"


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run_t2tbuild(*arguments, cwd=cwd, COLUMNS="160")


def test_the_first_two_commands_are_a_search_and_the_tests() -> None:
    search, tests, *_ = (block.strip() for block in code_blocks(README, "sh"))
    assert search == "pip install uv && uv run t2tbuild search --budget-macs 5G"
    assert tests == "pip install uv && uv run pytest -n auto"
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(read_page(README).splitlines()) <= 150


@pytest.mark.parametrize(("page", "name"), [(MODELS, "t2t_vit_14"), (README, "t2t_vit_7")])
def test_the_yaml_is_the_shipped_spec(page: Path, name: str) -> None:
    shown = read_text(code_blocks(page, "yaml")[0], page.name).data
    shipped = read_text((ROOT / "specs" / f"{name}.yaml").read_text(), "shipped").data
    assert shown == {key: shipped[key] for key in shown}
    assert shown.keys() >= {"version", "model"}


@pytest.mark.slow
def test_the_table_is_what_summarize_prints() -> None:
    done = run("summarize", "specs/t2t_vit_14.yaml")
    printed = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    assert code_blocks(MODELS, "text")[0].rstrip() == printed.rstrip()


def test_errors_are_reported_as_shown(tmp_path: Path) -> None:
    text = (ROOT / "specs" / "t2t_vit_14.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(
        text.replace(" depth: 14", " dpeth: 14").replace("num_heads: 6", "num_heads: 5")
    )
    done = run("validate", "mine.yaml", cwd=tmp_path)
    shown = code_blocks(MODELS, "text")[1].splitlines()[1:]
    assert done.returncode == 2
    assert done.stdout.splitlines() == shown


def test_the_options_shown_are_options() -> None:
    backbone = read_text(code_blocks(MODELS, "yaml")[1], "models.md").data["backbone"]
    model = load_spec("t2t_vit_dense").model.model_dump() | {"backbone": backbone}
    assert ModelSpec.model_validate(model).backbone.out_dim == 584
    weights = read_text(code_blocks(DEPLOY, "yaml")[0], "deploy.md").data["weights"]
    assert Weights.model_validate(weights).reset_head


@pytest.mark.slow
@pytest.mark.parametrize("table", [1, 6])
def test_the_papers_tables_are_what_compare_prints(table: int) -> None:
    done = run("compare", "--table", str(table), "--format", "markdown")
    assert done.stdout.startswith(f"**Table {table} of the paper**")
    assert done.stdout.strip() in read_page(MODELS)


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code_blocks(PYTHON, "python")[0], "python.md", "exec"), {})
    predicted, measured, top1 = capsys.readouterr().out.splitlines()
    assert predicted == measured
    assert re.fullmatch(r"8\d\.\d% \(\d\d\.\d to \d\d\.\d\)", top1)
    assert load_spec("wide_screen.yaml").model.grids[-1] == (12, 16)


def test_the_models_are_in_timm_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(one for one in code_blocks(PYTHON, "python") if "3 maps of" in one)
    exec(compile(block, "python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "t2t_vit_14_se" in printed
    assert printed.count("[1, 384, 6, 6]") == 3
    assert "3 maps of [1, 384, 6, 6]" in block


def test_the_defaults_shown_are_those_of_the_shipped_search() -> None:
    search, page = load_search_spec("deep_narrow").search, read_page(FIRST_SEARCH)
    assert f"`--trials {search.trials}`, `--timeout 5m`" in page
    assert search.timeout == 300
    assert f"`--seed {search.seed}`" in page
    assert "40, 100 and 200 training steps" in page
    assert search.proxy.rungs == (40, 100, 200)
