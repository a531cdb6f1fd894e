"""Loading specs: overrides, named specs, and the place of every mistake."""

import re
from pathlib import Path

import pytest
from bad_inputs import GOOD

from t2tbuild import load_search_spec, load_spec, write_spec
from t2tbuild.errors import SpecError
from t2tbuild.spec import catalog
from t2tbuild.spec.load import read_spec


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_valid_spec_loads(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD))
    assert spec.model.image == (224, 224)
    assert spec.model.grids == ((56, 56), (28, 28), (14, 14))
    assert spec.model.tokens == 197
    assert [stage.pad for stage in spec.model.tokenizer.stages] == [2, 1, 1]


def test_field_errors_and_violations_are_reported_together(tmp_path: Path) -> None:
    wrong = GOOD.replace("    depth: 14", "    dpeth: 14").replace("num_heads: 6", "num_heads: 5")
    wrong = wrong.replace("overlap: 3", "overlap: 9").replace("mlp_ratio: 3", "mlp_ratio: x")
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, wrong))
    assert [(one.line, one.rule) for one in caught.value.diagnostics] == [
        (7, "overlap-below-patch-size"),
        (11, "unknown-key"),
        (13, "heads-divide"),
        (14, "type"),
    ]
    assert str(caught.value).endswith("4 errors in " + str(tmp_path / "mine.yaml"))


def test_numbers_follow_yaml_1_2(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD + "train: {lr: 1e-3, weight_decay: 5e-2}\n"))
    assert spec.train is not None
    assert (spec.train.lr, spec.train.weight_decay) == (0.001, 0.05)


def test_overrides_are_validated_like_the_file() -> None:
    spec = load_spec(
        "t2t_vit_7", ["train.epochs=5", "model.image_size=[192, 256]", "model.tokenizer.stages.0.token_dim=32"]
    )
    assert spec.train is not None
    assert (spec.train.epochs, spec.model.image) == (5, (192, 256))
    assert spec.model.tokenizer.stages[0].token_dim == 32
    for override, message in [
        ("train.epochs=ten", "train.epochs must be a whole number, got 'ten' (write for example 300)"),
        ("train.eopchs=10", "unknown key 'eopchs' in train (did you mean 'epochs'?)"),
        ("train.epochs", "written key=value"),
        ("train.epochs=010", "010 has a leading zero (write 10)"),
        ("train.epochs=[1", "the bracket that opens here is not closed"),
        ("model.tokenizer.stages.9.token_dim=3", "there is no '9' in model.tokenizer.stages (it has 0 to 2)"),
        ("model.name.first=3", "there is no 'first' in model.name (it is a value, not a mapping)"),
    ]:
        with pytest.raises(SpecError) as caught:
            load_spec("t2t_vit_7", [override])
        assert message in str(caught.value)
        assert f"override {override!r}" in str(caught.value)


def test_overrides_expand_shorthands() -> None:
    stage = load_spec("t2t_vit_7", ["model.tokenizer.stages.0.attention.kernel_ratio=1"]).model.tokenizer.stages[0]
    assert (stage.attention.kind, stage.attention.kernel_ratio) == ("performer", 1)
    assert load_spec("t2t_vit_7", ["model.backbone.ghost.mlp=false"]).model.backbone.ghost.attention
    space = load_search_spec("deep_narrow", ["search.space.backbone.depth.fill=[0.5, 0.9]"]).search.space
    assert space["backbone.depth"].fill == (0.5, 0.9)


def test_a_training_spec_uses_the_model_of_another_spec(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, "version: 1\nmodel: t2t_vit_14\ntrain: {epochs: 3}\n"))
    assert spec.model == load_spec("t2t_vit_14").model
    (tmp_path / "other.yaml").write_text("version: 1\nmodel: mine.yaml\n")
    write(tmp_path, GOOD)
    assert load_spec(tmp_path / "other.yaml").model.name == "mine"
    with pytest.raises(SpecError, match=r"mine.yaml:2:8: error: model 'nowhere': no such file"):
        load_spec(write(tmp_path, "version: 1\nmodel: nowhere\n"))


@pytest.mark.parametrize("name", catalog.names("specs"))
def test_shipped_specs_round_trip_and_begin_with_the_paper_and_the_counts(tmp_path: Path, name: str) -> None:
    spec = load_spec(name)
    write_spec(spec, tmp_path / "copy.yaml", note="a copy")
    assert load_spec(tmp_path / "copy.yaml") == spec
    editors, first, *rest = catalog.find(name).read_text().splitlines()
    assert editors == "# yaml-language-server: $schema=spec.schema.json"
    assert re.fullmatch(r"# .+\. (Tables? .+ of the paper|Released code): .+ ImageNet top-1\.", first)
    assert rest[0].startswith("# Counted: ")
    assert f"# t2tbuild summarize specs/{name}.yaml" in rest


@pytest.mark.parametrize("name", catalog.names("search"))
def test_shipped_searches_round_trip(tmp_path: Path, name: str) -> None:
    spec = load_search_spec(name)
    write_spec(spec, tmp_path / "copy.yaml")
    assert load_search_spec(tmp_path / "copy.yaml") == spec


def test_an_explicit_null_is_kept(tmp_path: Path) -> None:
    spec = load_spec("t2t_vit_7", ["train.clip_grad=null"])
    assert spec.train is not None
    assert spec.train.clip_grad is None
    write_spec(spec, tmp_path / "copy.yaml")
    assert load_spec(tmp_path / "copy.yaml") == spec


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.budget={}", "the budget is empty"),
        ("search.budget.macs=5GB", "write 5G"),
        ("search.proxy.rungs=[40, 20]", "rungs must rise"),
        ("search.trials=0", "at least 1"),
        ("search.space={backbone.depth: {fill: [0.5]}}", "fill"),
        ("search.space.backbone.depth={fill: 0.5}", "fill must be a list, got 0.5"),
    ],
)
def test_mistakes_of_a_search(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_search_spec("deep_narrow", [override])


def test_mistakes_in_a_space(tmp_path: Path) -> None:
    text = (
        "version: 1\nsearch:\n  base: t2t_vit_14\n  budget: {macs: 5G}\n  space:\n"
        "    backbone.depth: {fil: [0.7, 1]}\n    backbone.embed_dim: {low: 64, high: 100, step: 10}\n"
        "    backbone.mlp_ratio: {fill: [0.5, 1]}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_search_spec(write(tmp_path, text))
    assert "mine.yaml:6:21" in str(caught.value)
    assert "must be {choices: [...]}" in str(caught.value)
    assert "write 94" in str(caught.value)


def test_a_model_or_base_in_an_override_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOOD)
    spec = load_spec("t2t_vit_7_digits", ["model.backbone.depth=3", "model=mine.yaml"])
    assert (spec.model.name, spec.model.backbone.depth, spec.paper) == ("mine", 3, ())
    assert load_spec("t2t_vit_7_digits", ["model=t2t_vit_14"]).paper == load_spec("t2t_vit_14").paper
    assert load_search_spec("deep_narrow", ["search.base=mine.yaml"]).search.base == str(tmp_path / "mine.yaml")
    with pytest.raises(SpecError, match="override 'model=nowhere': error: model 'nowhere': no such file"):
        load_spec("t2t_vit_7_digits", ["model=nowhere"])


def test_a_mistake_of_an_override_is_reported_at_the_override() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec("t2t_vit_14", ["train.epochs=3", "model.backbone.embed_dim=512"])
    (mistake,) = caught.value.diagnostics
    assert (mistake.file, mistake.column, mistake.rule) == (
        "override 'model.backbone.embed_dim=512'",
        26,
        "heads-divide",
    )
    (warning,) = read_spec("t2t_vit_14", ["model.image_size=230"]).warnings
    assert (warning.file, warning.rule) == ("override 'model.image_size=230'", "pixels-left-out")
    (old,) = read_spec("t2t_vit_14_resnext", ["model.image_size=192"]).warnings
    assert (Path(old.file).name, old.line) == ("t2t_vit_14_resnext.yaml", 21)


def test_mistakes_of_a_named_spec_are_reported_in_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("depth: 14", "dpeth: 14"))
    (tmp_path / "other.yaml").write_text("version: 1\nmodel: mine.yaml\ntrain: {epochs: ten}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "other.yaml")
    assert [(Path(one.file).name, one.line, one.rule) for one in caught.value.diagnostics] == [
        ("other.yaml", 2, "base"),
        ("other.yaml", 3, "type"),
        ("mine.yaml", 11, "unknown-key"),
    ]
    search = "version: 1\nsearch: {base: mine.yaml, budget: {macs: 5G}, space: {backbone.depth: {choices: [1, 2]}}}\n"
    (tmp_path / "search.yaml").write_text(search)
    with pytest.raises(SpecError, match=r"'mine\.yaml' has mistakes of its own"):
        load_search_spec(tmp_path / "search.yaml")


def test_at_most_a_hundred_mistakes_are_reported(tmp_path: Path) -> None:
    many = "".join(f"    key_{number}: 1\n" for number in range(300))
    with pytest.raises(SpecError) as caught:
        load_spec(
            write(tmp_path, GOOD.replace("name: mine", "nmae: mine").replace("  backbone:\n", f"  backbone:\n{many}"))
        )
    found = caught.value.diagnostics
    assert (found[0].line, found[0].rule) == (3, "unknown-key")
    assert len(found) == 101
    assert "201" in found[-1].message


@pytest.mark.parametrize(
    ("teacher", "resolved"),
    [
        ("runs/big", "{folder}/runs/big"),
        ("big.yaml", "{folder}/big.yaml"),
        ("resnet50", "resnet50"),
        ("timm:regnety_160.deit_in1k", "timm:regnety_160.deit_in1k"),
    ],
)
def test_paths_of_a_teacher_and_its_weights_are_relative_to_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str, resolved: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    distill = f"{{teacher: {teacher}, weights: big.pth}}"
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {{distill: {distill}}}\n")
    for overrides, folder in ([], tmp_path), ([f"train.distill={distill}"], tmp_path / "here"):
        recipe = load_spec("../mine.yaml", overrides).train
        assert recipe
        assert recipe.distill
        assert recipe.distill.weights
        assert recipe.distill.teacher == resolved.format(folder=folder)
        assert recipe.distill.weights.file == str(folder / "big.pth")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("runs/pots", r"no such run and no such file \(did you mean runs/pets\?"),
        ("runs/none", r"no such run and no such file \(runs in runs: birds, pets"),
        ("runs/pots/best.yaml", r"there is no folder runs/pots \(did you mean runs/pets/best.yaml\?"),
        ("runs/bird/best.yaml", r"there is no folder runs/bird \(runs in runs: birds, pets"),
        ("rums/pets", r"there is no folder rums \(t2tbuild ls lists"),
        ("copyy", r"no such shipped name \(did you mean copy\?"),
        ("runs/pets/bets.yaml", r"no such file and no such shipped name \(did you mean runs/pets/best.yaml"),
    ],
)
def test_a_mistyped_run_names_the_runs_beside_it(
    named: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("runs/birds", "runs/pets", "copy"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "spec.yaml").write_text(GOOD)
    (tmp_path / "runs" / "pets" / "best.yaml").write_text(GOOD)
    with pytest.raises(SpecError, match=message):
        load_spec(named)
