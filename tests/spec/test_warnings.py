"""Lint warnings have their place, and valid specs without suspicious values have none."""

from pathlib import Path

import pytest

from t2tbuild.spec import catalog
from t2tbuild.spec.load import read_search_spec, read_spec

SHIPPED_WARNINGS = {"t2t_vit_14_resnext": "narrow-heads", "t2t_vit_dense": "uneven-heads", "vit_dense": "uneven-heads"}
GOOD = """\
version: 1
model:
  name: mine
  image_size: 224
  tokenizer:
    stages:
      - {patch_size: 7, overlap: 3, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1, token_dim: 64, attention: performer}
      - {patch_size: 3, overlap: 1}
  backbone: {depth: 2, embed_dim: 384, num_heads: 6, mlp_ratio: 3}
"""


def warned(tmp_path: Path, old: str, new: str) -> list[tuple[int, int, str, str]]:
    assert old in GOOD
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new))
    found = read_spec(tmp_path / "mine.yaml").warnings
    assert all(warning.severity == "warning" for warning in found)
    return [(warning.line, warning.column, warning.rule, f"{warning.message} ({warning.hint})") for warning in found]


def test_a_valid_spec_has_no_warnings(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert read_spec(tmp_path / "mine.yaml").warnings == []
    (tmp_path / "mine.yaml").write_text(GOOD.replace("performer", "transformer"))  # 3,136 tokens are not many
    assert read_spec(tmp_path / "mine.yaml").warnings == []


@pytest.mark.parametrize("name", catalog.names("specs"))
def test_warnings_of_the_papers_models(name: str) -> None:
    found = {warning.rule for warning in read_spec(name).warnings}
    assert found == ({SHIPPED_WARNINGS[name]} if name in SHIPPED_WARNINGS else set())


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "rule", "fact"),
    [
        ("num_heads: 6", "num_heads: 32", 10, 51, "narrow-heads", "heads of 12 channels"),
        ("num_heads: 6", "head_dim: 12", 10, 50, "narrow-heads", "head_dim: 32"),
        ("num_heads: 6", "num_heads: 32", 10, 51, "narrow-heads", "num_heads: 12"),
        ("384, num_heads: 6", "400, num_heads: 4", 10, 51, "uneven-heads", "heads of 100 channels"),
        ("3, overlap: 1}", "4, overlap: 0}", 9, 34, "hard-split", "patches of 4"),
        ("3, overlap: 1}", "4}", 9, 9, "hard-split", "overlap: 1"),
        ("224", "[226, 224]", 7, 9, "pixels-left-out", "1 row at the bottom of the 226 x 224"),
        (
            "3, overlap: 1}",
            "5, overlap: 1, padding: 0}",
            9,
            9,
            "pixels-left-out",
            "3 columns at the right of the 28 x 28",
        ),
    ],
)
def test_a_warning_of_a_model(tmp_path: Path, old: str, new: str, line: int, column: int, rule: str, fact: str) -> None:
    found = warned(tmp_path, old, new)
    assert [one[:3] for one in found] == [(line, column, rule)]
    assert fact in found[0][3]


@pytest.mark.parametrize(
    ("train", "column", "rule", "fact"),
    [
        (
            "{ema: 0.99996}",
            14,
            "short-average",
            "25,000 steps, and there are 285 (write 0.965",
        ),
        ("{ema: 0.99, epochs: 1, warmup_epochs: 0, batch_size: 1257}", 14, "short-average", "there are 1 "),
        (
            "{ema: 0.99996, data: {kind: cifar10, holdout: 0.2}, batch_size: 512}",
            14,
            "short-average",
            "25,000 steps, and there are 1,170",
        ),
        ("{batch_size: 1258}", 21, "batch-above-data", "1,258 is above the 1,257 training images (write at most 1257)"),
        (
            "{batch_size: 64, data: {kind: fake, samples: 32}}",
            21,
            "batch-above-data",
            "64 is above the 32 training images",
        ),
        ("{warmup_lr: 1e-6, warmup_epochs: 0}", 20, "warmup-lr-unused", "warmup_epochs 0"),
        (
            "{data: {kind: folder, root: images, train: all, test: all}}",
            62,
            "validation-differs-from-training",
            "test is all",
        ),
        (
            "{data: {kind: timm, name: hfds/x, num_classes: 2, validation: train}}",
            70,
            "validation-differs-from-training",
            "validation is train",
        ),
        (
            "{distill: {teacher: resnet50, temperature: 2}}",
            51,
            "temperature-of-a-soft-loss",
            "loss: soft",
        ),
    ],
)
def test_a_warning_of_a_training(tmp_path: Path, train: str, column: int, rule: str, fact: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {train}\n")
    (warning,) = read_spec(tmp_path / "mine.yaml").warnings
    assert (warning.line, warning.column, warning.rule) == (3, column, rule)
    assert fact in f"{warning.message} ({warning.hint})"


@pytest.mark.parametrize(
    "train",
    [
        "{ema: 0.99, epochs: 30}",
        "{ema: 0.99996, data: {kind: folder, root: images}}",  # the number of images is not known
        "{batch_size: 1257}",
        "{batch_size: 4096, data: {kind: timm, name: hfds/x, num_classes: 2}}",
        "{warmup_lr: 1e-6}",
        "{distill: {teacher: resnet50, loss: soft, temperature: 3}}",
    ],
)
def test_a_valid_training_has_no_warnings(tmp_path: Path, train: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {train}\n")
    assert read_spec(tmp_path / "mine.yaml").warnings == []


def test_the_warning_of_full_attention_has_its_memory(tmp_path: Path) -> None:
    wide = GOOD.replace("image_size: 224", "image_size: 448").replace(
        "performer}\n      - {patch_size: 3, overlap: 1, t", "transformer}\n      - {patch_size: 3, overlap: 1, t"
    )
    (tmp_path / "mine.yaml").write_text(wide)
    (warning,) = read_spec(tmp_path / "mine.yaml").warnings
    assert (warning.line, warning.rule) == (7, "many-tokens")
    assert "12,544 tokens" in warning.message
    assert "629 MB" in warning.message
    assert 12_544**2 * 4 == 629_407_744
    assert "attention: performer" in warning.hint


def test_a_field_without_effect_has_a_warning(tmp_path: Path) -> None:
    lines = ["version: 1", "search:", "  base: t2t_vit_7", "  budget: {macs: 1G}"]
    lines += ["  space: {backbone.depth: {fill: [0.7, 1.0]}}", "  zero_cost: {first: 4}"]
    (tmp_path / "mine.yaml").write_text("\n".join(lines) + "\n")
    (warning,) = read_search_spec(tmp_path / "mine.yaml").warnings
    assert (warning.line, warning.rule, warning.hint) == (6, "first-has-no-effect", "remove it")


def test_the_warm_up_of_proxy_training_has_a_warning_but_not_with_an_evaluator(tmp_path: Path) -> None:
    lines = ["version: 1", "search:", "  base: t2t_vit_7", "  budget: {macs: 1G}"]
    lines += ["  space: {backbone.depth: {fill: [0.7, 1.0]}}", "  proxy: {rungs: [5, 10]}", ""]
    (tmp_path / "mine.yaml").write_text("\n".join(lines))
    (warning,) = read_search_spec(tmp_path / "mine.yaml").warnings
    assert (warning.path, warning.rule) == ("search.proxy.warmup_steps", "warm-up-ends")
    assert "20 steps" in warning.message
    (tmp_path / "mine.yaml").write_text("\n".join([*lines, "  evaluator: my_module:evaluate", ""]))
    assert read_search_spec(tmp_path / "mine.yaml").warnings == []
