"""A run directory in place of a spec, in every command that takes one; and names of commands that other tools have."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from t2tbuild import load_spec
from t2tbuild.cli import app
from t2tbuild.cli.aliases import SYNONYMS, rewrite
from t2tbuild.cli.check import check
from t2tbuild.errors import InputError, SpecError
from t2tbuild.spec.load import read_search_spec, read_spec
from t2tbuild.weights.read import read_weights

MODEL = "version: 1\nmodel: t2t_vit_7\n"
SEARCH = """
version: 1
search: {name: mine, base: t2t_vit_7, budget: {macs: 5G}, space: {backbone.depth: {choices: [7, 8]}}}
"""
WINNER = """
version: 1
model:
  name: winner
  image_size: 64
  tokenizer: {kind: patch, patch_size: 16}
  backbone: {depth: 2, embed_dim: 64, num_heads: 1, mlp_ratio: 2}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training's run, of a search with a winner, and of one without."""
    monkeypatch.chdir(tmp_path)
    for name, spec, more in (
        ("training", MODEL, {}),
        ("search", SEARCH, {"best.yaml": WINNER}),
        ("unfinished", SEARCH, {}),
    ):
        Path(name).mkdir()
        for file, text in {"spec.yaml": spec, **more}.items():
            (Path(name) / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("run_name", "taken", "model"),
    [
        ("training", "a run; taking its spec, training/spec.yaml", "t2t_vit_7"),
        ("search", "the run of a search; taking its winner, search/best.yaml", "winner"),
    ],
)
def test_commands_take_the_spec_of_a_run_and_say_so(run_name: str, taken: str, model: str) -> None:
    for command in (["summarize", run_name, "--fast"], ["diagram", run_name]):
        done = run(*command, "--json")
        assert done.exit_code == 0, done.exception
        assert json.loads(done.stdout)["name"] == model, command
        assert f"{run_name}: {taken}" in done.stderr, command
    compared = run("compare", "t2t_vit_14", run_name, "--json")
    assert [row["model"] for row in json.loads(compared.stdout)] == ["t2t_vit_14", model]
    assert taken in compared.stderr
    shown = run("show", run_name)
    assert f"name: {model}" in shown.stdout
    assert taken in shown.stderr
    valid = run("validate", run_name)
    assert (valid.exit_code, valid.stdout) == (0, "1 spec is valid\n")
    assert taken in valid.stderr
    changed = run("summarize", run_name, "model.backbone.depth=0")
    assert isinstance(changed.exception, SpecError)
    assert load_spec(run_name).model.name == model


def test_a_run_is_a_model_and_a_base_in_yaml_too(runs: Path) -> None:
    (runs / "again.yaml").write_text("version: 1\nmodel: search\n")
    (runs / "from.yaml").write_text(
        "version: 1\nsearch: {name: on, base: search, budget: {macs: 5G}, space: {backbone.depth: {choices: [1, 2]}}}\n"
    )
    assert load_spec("again.yaml").model.name == "winner"
    assert read_search_spec("from.yaml").spec.search.base == str(runs / "search/best.yaml")


def test_a_search_without_a_winner_names_the_commands_that_give_one() -> None:
    with pytest.raises(SpecError) as caught:
        read_spec("unfinished")
    (found,) = caught.value.diagnostics
    assert (found.file, found.rule) == ("unfinished", "spec-kind")
    assert "t2tbuild search resume unfinished" in found.hint
    assert run("validate", "unfinished").exit_code == 0  # its search spec
    with pytest.raises(SpecError, match="search resume search continues it"):
        read_search_spec("search")


def test_the_weights_of_a_winner_are_missed_with_the_command_that_trains_it() -> None:
    evaluated = run("evaluate", "search")
    assert isinstance(evaluated.exception, InputError)
    assert "t2tbuild train search/best.yaml" in str(evaluated.exception)
    with pytest.raises(InputError, match=r"whose winner is untrained; train it: t2tbuild train search/best\.yaml"):
        read_weights("search")


def test_a_shipped_name_wins_over_a_run_of_that_name(runs: Path) -> None:
    (runs / "search").rename(runs / "t2t_vit_10")
    assert load_spec("t2t_vit_10").model.name == "t2t_vit_10"
    assert "taking" not in run("summarize", "t2t_vit_10", "--fast").stderr


def test_names_of_other_tools_run_our_commands() -> None:
    assert run("list", "models", "--json").stdout == run("ls", "models", "--json").stdout
    assert rewrite(["benchmark", "resnet50", "--train"]) == ["bench", "resnet50", "--train"]
    assert rewrite(["summarize", "list"]) == ["summarize", "list"]
    assert not set(SYNONYMS) & {command.name for command in app.registered_commands}
    assert set(SYNONYMS.values()) <= {(one.callback or check).__name__ for one in app.registered_commands}
    assert "benchmark" not in run("--help").stdout


def test_resume_goes_to_the_command_of_the_run() -> None:
    assert rewrite(["resume", "training", "--device", "cpu"]) == ["train", "training", "--device", "cpu"]
    assert rewrite(["resume", "--workers", "2", "search"]) == ["search", "resume", "--workers", "2", "search"]
    for wrong in (["resume"], ["resume", "--help"], ["resume", "nowhere"]):
        with pytest.raises(InputError, match="t2tbuild search resume RUN"):
            rewrite(wrong)


def test_tune_is_a_hint_and_starts_nothing() -> None:
    done = run("tune", "t2t_vit_14")
    assert isinstance(done.exception, InputError)
    assert "t2tbuild search" in str(done.exception)
