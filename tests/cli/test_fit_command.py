"""t2tbuild fit: the largest spec within a budget, as YAML on stdout or in a file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from t2tbuild import load_spec, predict_accuracy, predict_cost
from t2tbuild.cli import app
from t2tbuild.errors import FieldError, InputError, SpecError
from t2tbuild.spec import ModelSpec


def fit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["fit", *arguments])


def model_of(file: Path) -> ModelSpec:
    model = load_spec(file).model
    assert isinstance(model, ModelSpec)
    return model


def test_fit_prints_a_spec_within_the_budget(tmp_path: Path) -> None:
    done = fit("t2t_vit_14", "--budget-macs", "3G")
    assert done.exit_code == 0
    (tmp_path / "fitted.yaml").write_text(done.stdout)
    model = model_of(tmp_path / "fitted.yaml")
    assert model.backbone.num_blocks == 8
    assert model.name == "t2t_vit_14_depth_8"
    assert "depth 8: 2,873,954,112 MACs, 95.8% of 3.00G" in done.stderr
    assert "depth 9 is over the budget: 3,195,004,224 MACs, 106.5% of 3.00G" in done.stderr


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    command = ["specs/train/t2t_vit_7_digits.yaml", "--budget-params", "5M", "--axis", "backbone.embed_dim"]
    command += ["--out", str(tmp_path / "narrow.yaml")]
    done = fit(*command)
    assert (done.exit_code, done.stdout) == (0, "")
    written = load_spec(tmp_path / "narrow.yaml")
    assert predict_cost(written.model).params <= 5_000_000
    assert written.train == load_spec("specs/train/t2t_vit_7_digits.yaml").train
    again = fit(*command)
    assert isinstance(again.exception, InputError)
    assert "exists already" in str(again.exception)
    assert fit(*command, "--force").exit_code == 0


def test_json_holds_the_spec_and_the_next_larger() -> None:
    done = fit("t2t_vit_14", "model.image_size=192", "--budget-macs", "5G", "--axis", "mlp_ratio", "--json")
    record = json.loads(done.stdout)
    model = ModelSpec.model_validate(record["best"]["spec"]["model"])
    cost = predict_cost(model)
    assert (record["best"]["macs"], record["best"]["params"]) == (cost.macs, cost.params)
    assert cost.macs <= 5 * 10**9 < record["over"]["macs"]
    assert record["over"]["value"] - record["best"]["value"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["t2t_vit_14"], InputError, "no budget; write --budget-macs 5G, --budget-params 22M, or both"),
        (["t2t_vit_14", "--budget-macs", "5GB"], InputError, "--budget-macs: '5GB' reads as bytes"),
        (
            ["t2t_vit_14", "--budget-macs", "5G", "--axis", "wdith"],
            InputError,
            "--axis: must be one of depth",
        ),
        (["resnet50", "--budget-macs", "5G"], InputError, "resnet50 is a timm model"),
        (["t2t_vit_14", "--budget-macs", "5M"], SpecError, "the smallest depth, 1, has 626,603,328 MACs, over 5.00M"),
        (["t2t_vit_dense", "--budget-macs", "5G"], SpecError, "t2t_vit_dense has no depth"),
    ],
)
def test_errors_are_reported(arguments: list[str], kind: type[InputError], message: str) -> None:
    done = fit(*arguments)
    assert isinstance(done.exception, kind), done.exception
    assert not isinstance(done.exception, FieldError)  # it has a place in the file
    assert message in str(done.exception)
    assert done.stdout == ""


def test_by_accuracy_writes_the_best_predicted_backbone(tmp_path: Path) -> None:
    best = ("t2t_vit_14", "--budget-macs", "3G", "--by", "accuracy")
    done = fit(*best, "--out", str(tmp_path / "best.yaml"))
    assert done.exit_code == 0
    model = model_of(tmp_path / "best.yaml")
    assert predict_cost(model).macs <= 3_000_000_000
    accuracy = predict_accuracy(model)
    first, *others = done.stderr.splitlines()
    assert str(accuracy) in first
    assert sum(line.startswith("  next: ") for line in others) == 5
    (tmp_path / "printed.yaml").write_text(fit(*best).stdout)
    assert model_of(tmp_path / "printed.yaml") == model
    found = json.loads(fit(*best, "--json").stdout)
    assert (found["best"]["top1"], found["file"]) == (accuracy.top1, None)
    lows = [one["low"] for one in (found["best"], *found["next"])]
    assert lows == sorted(lows, reverse=True)


def test_by_accuracy_takes_no_axis_and_needs_a_plain_backbone() -> None:
    both = fit("t2t_vit_14", "--budget-macs", "3G", "--by", "accuracy", "--axis", "depth")
    assert isinstance(both.exception, InputError)
    dense = fit("t2t_vit_dense", "--budget-macs", "3G", "--by", "accuracy")
    assert isinstance(dense.exception, SpecError | FieldError)
    assert "name a model with a plain backbone" in str(dense.exception)


def test_the_old_name_of_axis_works_with_a_warning() -> None:
    command = ("t2t_vit_14", "--budget-macs", "3G")
    old, new = fit(*command, "--free", "embed_dim"), fit(*command, "--axis", "embed_dim")
    assert (old.exit_code, old.stdout) == (0, new.stdout)
    warning, *rest = old.stderr.splitlines()
    assert "--free is deprecated" in warning
    assert "--axis" in warning
    assert rest == new.stderr.splitlines()
    both = fit(*command, "--free", "embed_dim", "--axis", "depth")
    assert isinstance(both.exception, InputError)
