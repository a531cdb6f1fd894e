"""t2tbuild export RUN --budgets: a family of models from one supernet; several --budget-macs of a search."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from t2tbuild import build_model, load_search_spec, load_spec, load_weights, write_spec
from t2tbuild.cli import app
from t2tbuild.cli.console import stderr
from t2tbuild.cli.search_progress import SearchProgress
from t2tbuild.errors import ExportError, InputError
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy_evaluator import load_proxy_data
from t2tbuild.nas.supernet.family import rebuild
from t2tbuild.nas.supernet.loaded import load_supernet
from t2tbuild.nas.supernet.pool import pool
from t2tbuild.nas.supernet.progress import PhaseProgress
from t2tbuild.nas.supernet.results import FOLDER, InheritedResult, read_results, write_results
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.spec import ModelSpec
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.weights.exported import open_exported
from tests.cli.exports import export, refusal
from tests.nas.conftest import tiny_search

CHANGES = (
    "search.supernet={steps: 2, budgets: [1500K]}",
    "search.proxy.width=full",
    "search.space={backbone.embed_dim: {choices: [32, 64]}, backbone.depth: {low: 1, high: 3}}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a search whose supernet was trained for two steps, with made-up results of its members."""
    folder = tmp_path_factory.mktemp("family")
    spec, cpu = tiny_search(folder, *CHANGES), torch.device("cpu")
    planned = plan(spec)
    (folder / "run").mkdir()
    write_spec(spec, folder / "run" / "spec.yaml")
    members, data = pool(planned), load_proxy_data(planned, cpu)
    trainer = SupernetTrainer(members, data, planned.search, DistributedContext(cpu))
    trainer.train(lambda: None, folder / "run" / FOLDER)
    results = [InheritedResult(one.key, one.macs, one.params, None, 0.5, 1e6 / one.macs, one.values) for one in members]
    write_results(folder / "run" / FOLDER, InheritedResult, results)
    return folder / "run"


@pytest.mark.slow
def test_a_model_for_each_budget_is_written_with_the_weights_of_the_supernet(run: Path) -> None:
    done = export(run, "--budgets", "3M,1500K", "--json")
    assert done.exit_code == 0, done.output
    records, results = json.loads(done.stdout), read_results(run / FOLDER, InheritedResult)
    assert [record["budget"] for record in records] == [1_500_000, 3_000_000]
    supernet = load_supernet(plan(load_search_spec(run / "spec.yaml"), to_read=True), run)
    images = torch.randn(2, 3, 16, 16)
    for record in records:
        assert record["macs"] == max(one.macs for one in results if one.macs <= record["budget"])  # the best, made up
        assert 0 <= record["difference"] < 1e-4
        spec = load_spec(record["spec"])
        assert isinstance(spec.model, ModelSpec) and spec.weights is not None  # a path relative to the spec
        assert (spec.model.num_classes, spec.model.image_size) == (10, 16)
        built = build_model(spec.model)
        load_weights(built, spec.weights.file)
        with torch.inference_mode():
            expected = supernet.subnet(spec.model).eval()(images)
            torch.testing.assert_close(built.eval()(images), expected, rtol=0, atol=1e-5)
    names = {path.name for path in (run / "family").iterdir()}
    assert names == {f"tiny_{size}.{kind}" for size in ("3M", "1.5M") for kind in ("yaml", "safetensors")}
    assert "exists already" in refusal(run, "--budgets", "3M")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_family_is_exported_to_onnx(run: Path, tmp_path: Path) -> None:
    done = export(run, "--budgets", "3M", "--format", "onnx", "--preprocess", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "tiny_3M: " in done.stdout and "of 3.00M MACs, inherited accuracy 50.0%" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"tiny_3M.yaml", "tiny_3M.safetensors", "tiny_3M.onnx"}
    info = open_exported(tmp_path / "tiny_3M.onnx").info
    assert info.preprocessing.inside and info.preprocessing.image == (16, 16)


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path) -> None:
    assert "the smallest has" in refusal(run, "--budgets", "1K,3M")
    assert "names 3M twice" in refusal(run, "--budgets", "3M,3M")
    assert "--budgets: '3X' is not a count" in refusal(run, "--budgets", "3X")
    assert "--weights does not fit --budgets" in refusal(run, "--budgets", "3M", "--weights", "w.pth")
    assert "--preprocess is for --format torch-export or onnx" in refusal(run, "--budgets", "3M", "--preprocess")
    assert "--out is missing" in refusal(run)
    plain = tmp_path / "plain"
    plain.mkdir()
    write_spec(tiny_search(tmp_path), plain / "spec.yaml")
    assert "has no supernet" in refusal(plain, "--budgets", "3M")
    write_spec(tiny_search(tmp_path, CHANGES[0], "search.proxy.width=quarter"), plain / "spec.yaml")
    assert "has evaluated no members" in refusal(plain, "--budgets", "3M")
    write_results(plain / FOLDER, InheritedResult, read_results(run / FOLDER, InheritedResult))
    assert "search.proxy.width=full" in refusal(plain, "--budgets", "3M")


@pytest.mark.slow
def test_an_edited_row_is_noticed(run: Path, tmp_path: Path) -> None:
    edited = tmp_path / "run"
    edited.mkdir()
    (edited / "spec.yaml").write_text((run / "spec.yaml").read_text())
    results = read_results(run / FOLDER, InheritedResult)
    write_results(edited / FOLDER, InheritedResult, results)
    members = edited / FOLDER / "members.csv"
    whole = members.read_text()
    edits: list[Callable[[InheritedResult], InheritedResult]] = [
        lambda one: replace(one, macs=one.macs - 1),
        lambda one: replace(one, values={**one.values, "backbone.embed_dim": 48}),
        lambda one: replace(one, values={**one.values, "backbone.embed_dim": None}),
        lambda one: replace(one, values={"backbone.depth": 2}),
    ]
    for edit in edits:
        write_results(edited / FOLDER, InheritedResult, [edit(one) for one in results])
        assert "was it edited?" in mistake(edited)
    for text in (whole.replace("0.5", "half"), whole.replace("macs", "MACs"), whole.replace(",", ";")):
        members.write_text(text)
        assert "was it edited?" in mistake(edited)


def mistake(run: Path) -> str:
    error = export(run, "--budgets", "3M").exception
    assert isinstance(error, ExportError), error
    return str(error)


@pytest.mark.slow
def test_members_that_failed_are_not_exported(run: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text((run / "spec.yaml").read_text())
    results = [replace(one, loss=math.nan) for one in read_results(run / FOLDER, InheritedResult)]
    write_results(tmp_path / FOLDER, InheritedResult, results)
    assert "all evaluated members of its supernet failed" in refusal(tmp_path, "--budgets", "3M")


def test_a_block_that_a_member_does_not_have_needs_no_value(tmp_path: Path) -> None:
    ratios = "search.space={backbone.depth: {low: 1, high: 3}, backbone.mlp_ratio: {choices: [3, 4], per: block}}"
    planned = plan(tiny_search(tmp_path, ratios, *CHANGES[:2]))
    found = next(one for one in pool(planned) if one.values["backbone.depth"] == 2)
    values = dict(found.values)
    assert rebuild(planned.space, values | {"backbone.mlp_ratio.2": None}) == found.model
    values.pop("backbone.mlp_ratio.2", None)
    assert rebuild(planned.space, values) == found.model
    with pytest.raises(LookupError):
        rebuild(planned.space, values | {"backbone.mlp_ratio.1": 5})


def test_several_budgets_of_a_search(tmp_path: Path) -> None:
    tiny_search(tmp_path)

    def explain(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["search", str(tmp_path / "tiny.yaml"), *arguments, "--explain"])

    wrong = explain("--budget-macs", "1M,3M").exception
    assert isinstance(wrong, InputError)
    assert "--budget-macs: several budgets need a supernet" in str(wrong)
    below = explain("--budget-macs", "3M,1M", "search.supernet.steps=9").exception
    assert "--budget-macs: error: no member of the space has 1M MACs or fewer" in str(below)
    done = explain("--budget-macs", "3M,2M", "search.supernet.steps=9")
    assert done.exit_code == 0, done.output
    assert "members within 3.00M MACs" in done.stdout
    twice = explain("--budget-macs", "3M,3M", "search.supernet.steps=9").exception
    assert "names 3M twice" in str(twice)


def test_phases_are_printed_with_the_time_that_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = SearchProgress(stderr(), tiny_search(tmp_path, "search.supernet={steps: 9}"))
    for done in (20, 40, 100):
        progress.shown_at = 1e-9  # long ago
        progress.report(PhaseProgress("training", done, 100, seconds=done / 2, here=done))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "supernet, training: 20 of 100 steps, ETA 40s",
        "supernet, training: 40 of 100 steps, ETA 30s",
        "supernet, training: 100 of 100 steps",
    ]
