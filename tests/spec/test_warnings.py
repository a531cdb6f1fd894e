"""What is legal but likely a slip is warned of, at its place; what is no slip is not."""

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
    told = read_spec(tmp_path / "mine.yaml").warnings
    assert all(warning.severity == "warning" for warning in told)
    return [(warning.line, warning.column, warning.rule, f"{warning.message} ({warning.hint})") for warning in told]


def test_a_good_spec_is_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert read_spec(tmp_path / "mine.yaml").warnings == []
    (tmp_path / "mine.yaml").write_text(GOOD.replace("performer", "transformer"))  # 3,136 tokens are not many
    assert read_spec(tmp_path / "mine.yaml").warnings == []


@pytest.mark.parametrize("name", catalog.names("specs"))
def test_the_papers_models_are_warned_of_where_they_are_odd(name: str) -> None:
    found = {warning.rule for warning in read_spec(name).warnings}
    assert found == ({SHIPPED_WARNINGS[name]} if name in SHIPPED_WARNINGS else set())


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "rule", "message"),
    [
        ("num_heads: 6", "num_heads: 32", 10, 51, "narrow-heads", "heads of 12 channels: under 16"),
        ("num_heads: 6", "head_dim: 12", 10, 50, "narrow-heads", "(write head_dim: 32)"),
        ("num_heads: 6", "num_heads: 32", 10, 51, "narrow-heads", "(write num_heads: 12)"),
        ("384, num_heads: 6", "400, num_heads: 4", 10, 51, "uneven-heads", "heads of 100 channels: no multiple of 8"),
        ("3, overlap: 1}", "4, overlap: 0}", 9, 34, "hard-split", "no pixel is seen twice, a hard split (a soft split"),
        ("3, overlap: 1}", "4}", 9, 9, "hard-split", "write overlap: 1"),
        ("224", "[226, 224]", 7, 9, "pixels-left-out", "1 row at the bottom of the 226 x 224 pixels"),
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
def test_a_slip_is_warned_of(
    tmp_path: Path, old: str, new: str, line: int, column: int, rule: str, message: str
) -> None:
    told = warned(tmp_path, old, new)
    assert [one[:3] for one in told] == [(line, column, rule)]
    assert message in told[0][3]


@pytest.mark.parametrize(
    ("train", "column", "rule", "message"),
    [
        (
            "{ema: 0.99996}",
            14,
            "short-average",
            "averages over 25,000 steps and there are 285 (write 0.965, or",
        ),
        ("{ema: 0.99, epochs: 1, warmup_epochs: 0, batch_size: 1257}", 14, "short-average", "are 1 (leave it out)"),
        (
            "{ema: 0.99996, data: {kind: cifar10, holdout: 0.2}, batch_size: 512}",
            14,
            "short-average",
            "averages over 25,000 steps and there are 1,170",
        ),
        ("{batch_size: 1258}", 21, "batch-above-data", "1,258 is above the 1,257 training images (write at most 1257)"),
        (
            "{batch_size: 64, data: {kind: fake, samples: 32}}",
            21,
            "batch-above-data",
            "64 is above the 32 training images",
        ),
        ("{warmup_lr: 1e-6, warmup_epochs: 0}", 20, "warmup-lr-unused", "no warm-up starts there (leave it out)"),
        (
            "{data: {kind: folder, root: images, train: all, test: all}}",
            62,
            "measured-on-training-images",
            "test is all, the training images",
        ),
        (
            "{data: {kind: timm, name: hfds/x, num_classes: 2, validation: train}}",
            70,
            "measured-on-training-images",
            "validation is train, the training images",
        ),
        (
            "{distill: {teacher: resnet50, temperature: 2}}",
            51,
            "temperature-of-a-soft-loss",
            "a hard loss has no temperature (write loss: soft, or leave it out)",
        ),
    ],
)
def test_a_slip_of_a_training_is_warned_of(tmp_path: Path, train: str, column: int, rule: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {train}\n")
    (told,) = read_spec(tmp_path / "mine.yaml").warnings
    assert (told.line, told.rule) == (3, rule)
    assert message in f"{told.message} ({told.hint})"
    assert told.column == column


@pytest.mark.parametrize(
    "train",
    [
        "{ema: 0.99, epochs: 30}",
        "{ema: 0.99996, data: {kind: folder, root: images}}",  # how many images that has is not known
        "{batch_size: 1257}",
        "{batch_size: 4096, data: {kind: timm, name: hfds/x, num_classes: 2}}",
        "{warmup_lr: 1e-6}",
        "{distill: {teacher: resnet50, loss: soft, temperature: 3}}",
    ],
)
def test_what_is_no_slip_of_a_training_is_not_warned_of(tmp_path: Path, train: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nmodel: t2t_vit_7\ntrain: {train}\n")
    assert read_spec(tmp_path / "mine.yaml").warnings == []


def test_full_attention_among_many_tokens_is_told_with_its_memory(tmp_path: Path) -> None:
    wide = GOOD.replace("image_size: 224", "image_size: 448").replace(
        "performer}\n      - {patch_size: 3, overlap: 1, t", "transformer}\n      - {patch_size: 3, overlap: 1, t"
    )
    (tmp_path / "mine.yaml").write_text(wide)
    (warning,) = read_spec(tmp_path / "mine.yaml").warnings
    assert (warning.line, warning.rule) == (7, "many-tokens")
    assert "full attention among 12,544 tokens: its matrix of 1 head is 629 MB an image in float32" in warning.message
    assert 12_544**2 * 4 == 629_407_744
    assert "attention: performer" in warning.hint


def test_a_field_without_effect_is_warned_of(tmp_path: Path) -> None:
    lines = ["version: 1", "search:", "  base: t2t_vit_7", "  budget: {macs: 1G}"]
    lines += ["  space: {backbone.depth: {fill: [0.7, 1.0]}}", "  scores: {first: 4}"]
    (tmp_path / "mine.yaml").write_text("\n".join(lines) + "\n")
    (warning,) = read_search_spec(tmp_path / "mine.yaml").warnings
    assert (warning.line, warning.rule, warning.hint) == (6, "first-has-no-effect", "leave it out")
