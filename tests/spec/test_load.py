"""Every mistake is named at its place."""

import re
from pathlib import Path

import pytest

from t2tbuild import load_search_spec, load_spec, write_spec
from t2tbuild.errors import InputError, SpecError
from t2tbuild.spec import catalog

GOOD = """\
version: 1
model:
  name: mine
  tokenizer:
    kind: t2t
    stages:
      - {patch_size: 7, overlap: 3, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1}
  backbone:
    depth: 14
    embed_dim: 384
    num_heads: 6
    mlp_ratio: 3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_good_spec_loads(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD))
    assert spec.model.image == (224, 224)
    assert spec.model.grids == ((56, 56), (28, 28), (14, 14))
    assert spec.model.tokens == 197
    assert [stage.pad for stage in spec.model.tokenizer.stages] == [2, 1, 1]


MISTAKES = [
    ("    depth: 14", "    dpeth: 14", 11, 5, "unknown key 'dpeth' in model.backbone (did you mean 'depth'?)"),
    ("num_heads: 6", "num_heads: 5", 13, 16, "divisible by num_heads, got 384 and 5 (nearest: 4, 6)"),
    ("num_heads: 6", "head_dim: 50", 13, 15, "divisible by head_dim, got 384 and 50 (nearest: 48, 64)"),
    ("depth: 14", "depth: 0", 11, 12, "model.backbone.depth must be at least 1, got 0"),
    ("depth: 14", "depth: '14'", 11, 12, "must be a whole number, got '14' (remove the quotes)"),
    ("depth: 14", "depth: 14.0", 11, 12, "must be a whole number, got 14.0 (write 14)"),
    ("depth: 14", "depth: 014", 11, 12, "014 has a leading zero; write 14"),
    ("depth: 14", "depth: .nan", 11, 12, "model.backbone.depth must be a whole number, got nan"),
    ("mlp_ratio: 3", "mlp_ratio: .inf", 14, 16, "model.backbone.mlp_ratio must be a finite number, got inf"),
    ("mlp_ratio: 3", "mlp_ratio: x", 14, 16, "model.backbone.mlp_ratio must be a number, got 'x'"),
    ("num_heads: 6", "num_heads: x", 13, 16, "model.backbone.num_heads must be a whole number, got 'x'"),
    ("num_heads: 6", "num_heads: 0", 13, 16, "divisible by num_heads, got 384 and 0"),
    ("name: mine", "name: mine\n  image_size: true", 4, 15, "model.image_size must be a whole number, got True"),
    ("depth: 14", f"depth: {'9' * 5000}", 11, 12, "a number of 5000 digits"),
    ("version: 1", "version: 1.0", 1, 10, "version must be 1, got 1.0"),
    ("version: 1", "version: true", 1, 10, "version must be 1, got True"),
    ("depth: 14", "depth: 1000000000", 11, 12, "must be at most 1000, got 1000000000"),
    ("depth: 14", "depth: 14\n    depth: 15", 12, 5, "key 'depth' stands twice, first in line 11"),
    ("overlap: 3,", "overlap: 7,", 7, 34, "overlap must be below patch_size, got 7 and 7 (write at most 6)"),
    ("kind: t2t", "kind: t2", 5, 11, "must be one of 't2t', 'conv', 'patch', got 't2' (did you mean 't2t'?)"),
    (
        "attention: performer}\n      - {patch_size: 3, overlap: 1}",
        "attention: preformer}\n      - {patch_size: 3, overlap: 1}",
        8,
        63,
        "must be one of 'performer', 'transformer', got 'preformer' (did you mean 'performer'?)",
    ),
    (
        "overlap: 1}",
        "overlap: 1, token_dim: 64}",
        9,
        48,
        "the last stage takes no token_dim",
    ),
    ("mlp_ratio: 3", "mlp_ratio: [3, 3]", 14, 16, "mlp_ratio lists 2 values for 14 blocks"),
    ("version: 1", "version: 2", 1, 10, "version must be 1, got 2"),
    ("  name: mine", "  name: ../../etc/passwd", 3, 9, "letters, digits"),
    ("  name: mine", "  name: mine\n  image_size: 2", 4, 15, "leaves no token at stage 0"),
    ("    mlp_ratio: 3", "    mlp_ratio: !!python/object:os.system 3", 14, 16, "tag"),
    ("    mlp_ratio: 3", "\tmlp_ratio: 3", 14, 1, "not YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "message"), MISTAKES)
def test_a_mistake_is_named_at_its_place(
    tmp_path: Path, old: str, new: str, line: int, column: int, message: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    told = [diagnostic for diagnostic in caught.value.diagnostics if message in str(diagnostic)]
    assert len(caught.value.diagnostics) == 1 + ("dpeth" in new), str(caught.value)  # a mistake is told once
    assert told, str(caught.value)
    assert (told[0].file, told[0].line) == (str(path), line)
    assert told[0].column == column


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("depth: 14", "depth: ten").replace("overlap: 3", "overlap: 9"))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert len(caught.value.diagnostics) == 2
    assert str(caught.value).endswith("2 errors")


def test_numbers_follow_yaml_1_2(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD + "train: {lr: 1e-3, weight_decay: 5e-2}\n"))
    assert spec.train is not None
    assert (spec.train.lr, spec.train.weight_decay) == (0.001, 0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the spec is empty"),
        ("- 1\n", "must be a mapping"),
        ("a: &x 1\nb: *x\n", "alias"),
        ("a: 1\n---\nb: 1\n", "several documents"),
        ("[" * 40 + "]" * 40, "deeper than 32"),
        ("search: {}\n", "this is a search spec"),
        ("a: [1\n", "not YAML"),
    ],
)
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_spec(write(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean .*t2t_vit_14"):
        load_spec("t2t_vit_41")
    with pytest.raises(InputError, match=r"a folder, not a spec; it holds no \.yaml"):
        load_spec(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("version: 1\nname: é\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin\.yaml:2:1: not UTF-8"):
        load_spec(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_text("#" * (1 << 20) + "\nversion: 1\n")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_spec(tmp_path / "big.yaml")


def test_overrides_pass_the_same_validator() -> None:
    spec = load_spec(
        "t2t_vit_7", ["train.epochs=5", "model.image_size=[192, 256]", "model.tokenizer.stages.0.token_dim=32"]
    )
    assert spec.train is not None
    assert (spec.train.epochs, spec.model.image) == (5, (192, 256))
    assert spec.model.tokenizer.stages[0].token_dim == 32
    for override, message in [
        ("train.epochs=ten", "train.epochs must be a whole number, got 'ten'"),
        ("train.eopchs=10", "unknown key 'eopchs' in train"),
        ("train.epochs", "written key=value"),
        ("model.tokenizer.stages.9.token_dim=3", "there is no 9 in model.tokenizer.stages"),
    ]:
        with pytest.raises(SpecError) as caught:
            load_spec("t2t_vit_7", [override])
        assert message in str(caught.value)
        assert f"override {override!r}" in str(caught.value)


def test_a_training_spec_takes_the_model_of_another(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, "version: 1\nmodel: t2t_vit_14\ntrain: {epochs: 3}\n"))
    assert spec.model == load_spec("t2t_vit_14").model
    (tmp_path / "other.yaml").write_text("version: 1\nmodel: mine.yaml\n")
    write(tmp_path, GOOD)
    assert load_spec(tmp_path / "other.yaml").model.name == "mine"
    with pytest.raises(SpecError, match=r"mine.yaml:2:8: .*no such file"):
        load_spec(write(tmp_path, "version: 1\nmodel: nowhere\n"))


@pytest.mark.parametrize("name", catalog.names("specs"))
def test_shipped_specs_round_trip_and_open_as_lab_notes(tmp_path: Path, name: str) -> None:
    spec = load_spec(name)
    write_spec(spec, tmp_path / "copy.yaml", note="a copy")
    assert load_spec(tmp_path / "copy.yaml") == spec
    first, *rest = catalog.find(name, "specs").read_text().splitlines()
    assert re.fullmatch(r"# .+\. (Tables? .+ of the paper|Released code): .+ ImageNet top-1\.", first)
    assert rest[0].startswith("# Counted: ")
    assert f"# t2tbuild summarize specs/{name}.yaml" in rest


@pytest.mark.parametrize("name", catalog.names("search"))
def test_shipped_searches_round_trip(tmp_path: Path, name: str) -> None:
    spec = load_search_spec(name)
    write_spec(spec, tmp_path / "copy.yaml")
    assert load_search_spec(tmp_path / "copy.yaml") == spec


def test_a_null_that_a_person_wrote_is_kept(tmp_path: Path) -> None:
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
    ],
)
def test_mistakes_of_a_search(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_search_spec("deep_narrow", [override])


def test_a_space_says_what_it_takes(tmp_path: Path) -> None:
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
