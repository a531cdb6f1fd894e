"""Training from trained weights: other classes, other image sizes, frozen parts."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from t2tbuild import ModelSpec, Spec, build_model, load_spec, train
from t2tbuild.errors import FieldError, InputError
from t2tbuild.spec.weights import Weights
from t2tbuild.training.init_model import init_model
from t2tbuild.training.reports import Notice, Report, ignore_report
from t2tbuild.training.resolve import resolve, resolve_files

TINY = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=1", "train.batch_size=256"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the ten digits."""
    run = tmp_path_factory.mktemp("source") / "run"
    train(load_spec("t2t_vit_7", TINY), run)
    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / "model.safetensors")


def draw_images(root: Path) -> Path:
    """Draw a folder of three new classes: rings, crosses and bars with noise."""
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :20] - 9.5
    shapes = {
        "bars": np.abs(rows) < 3,
        "crosses": (np.abs(rows) < 2) | (np.abs(columns) < 2),
        "rings": np.abs(np.hypot(rows, columns) - 6) < 2,
    }
    for split, count in (("train", 12), ("val", 4)):
        for name, shape in shapes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture = 200 * shape + noise.integers(0, 55, shape.shape)
                Image.fromarray(picture.astype(np.uint8)).save(root / split / name / f"{number}.png")
    return root


def new_classes(root: Path, *changes: str) -> Spec:
    data = f"train.data={{kind: folder, root: {root}, image_size: 32, workers: 0, augment: null}}"
    recipe = [data, "train.epochs=2", "train.batch_size=12"]
    return load_spec("t2t_vit_7", ["model.backbone.depth=1", *recipe, *changes])


def test_a_run_starts_training_on_other_classes_at_another_size(source: Path, tmp_path: Path) -> None:
    """The head is randomly initialised, with a notice; the position embedding is resized; the rest is the run's."""
    reports: list[Report] = []
    spec = resolve_files(resolve(new_classes(draw_images(tmp_path / "images"), f"weights={source}")))
    model = init_model(spec, reports.append)
    assert isinstance(spec.model, ModelSpec)
    assert (spec.model.num_classes, spec.model.image) == (3, (32, 32))
    started, message = reports
    assert isinstance(started, Notice) and isinstance(message, Notice)
    assert started.text == f"training starts from {source}/checkpoints/step-000000004"
    assert "the head is randomly initialised" in message.text
    assert "head.weight [10, 256], the model has [3, 256]" in message.text
    for key, value in weights_of(source).items():
        if not key.startswith("head.") and key != "pos_embed":
            assert torch.equal(model.state_dict()[key], value), key
    result = train(spec, tmp_path / "run")
    assert result.epochs == 2
    assert load_spec(tmp_path / "run" / "spec.yaml").model.num_classes == 3


def test_a_head_of_the_same_classes_is_kept_unless_reset_head_is_set(source: Path) -> None:
    reports: list[Report] = []
    spec = resolve(load_spec("t2t_vit_7", [*TINY, f"weights={source}"]))
    kept = init_model(spec, reports.append)
    assert [report for report in reports if isinstance(report, Notice) and "head" in report.text] == []
    assert torch.equal(kept.state_dict()["head.weight"], weights_of(source)["head.weight"])
    fresh = spec.model_copy(update={"weights": Weights(file=str(source), reset_head=True)})
    assert not torch.equal(
        init_model(fresh, ignore_report).state_dict()["head.weight"], weights_of(source)["head.weight"]
    )
    refused = resolve(load_spec("t2t_vit_7", [*TINY])).model_copy(
        update={"weights": Weights(file=str(source), reset_head=False)}
    )
    other = refused.model.model_copy(update={"num_classes": 3})
    with pytest.raises(InputError, match=r"of another shape \(2\): head.weight"):
        init_model(refused.model_copy(update={"model": other}), ignore_report)


def test_frozen_parts_keep_their_weights(source: Path, tmp_path: Path) -> None:
    frozen = ["train.freeze=[tokenizer, backbone]", f"weights={source}"]
    train(load_spec("t2t_vit_7", [*TINY, *frozen]), tmp_path / "run")
    before, after = weights_of(source), weights_of(tmp_path / "run")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"head.weight", "head.bias"}


def test_all_parts_are_trained_in_a_transfer_with_scaled_learning_rates(source: Path, tmp_path: Path) -> None:
    """Class token and last norm included, which the released script leaves out."""
    scaled = ["train.lr_scale={tokenizer: 0.5, backbone: 0.5}", "train.optimizer=sgd", f"weights={source}"]
    train(load_spec("t2t_vit_7", [*TINY, *scaled, "train.lr=0.1"]), tmp_path / "run")
    before, after = weights_of(source), weights_of(tmp_path / "run")
    still = {key for key in before if torch.equal(before[key], after[key])}
    assert still == {"pos_embed", "tokens_to_token.attention1.w", "tokens_to_token.attention2.w"}  # the frozen tables


def test_weights_are_not_loaded_again_when_a_run_is_continued(source: Path, tmp_path: Path) -> None:
    spec = load_spec("t2t_vit_7", [*TINY, f"weights={tmp_path / 'start.safetensors'}"])
    save_file(weights_of(source), tmp_path / "start.safetensors")
    train(spec, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "run" / "metrics.jsonl").write_text(lines[0] + "\n")  # as after a kill before the result
    (tmp_path / "start.safetensors").unlink()
    assert train(spec, tmp_path / "run").epochs == 1


def test_missing_weights_create_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder of weights"):
        train(load_spec("t2t_vit_7", [*TINY, "weights=nowhere.pth"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_images_raise_with_the_expected_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("T2TBUILD_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FieldError) as message:
        train(new_classes(Path("birds")))
    assert f"there is no folder {tmp_path}/birds" in str(message.value)
    assert "expected birds/train/CLASS/*.jpg and birds/val/CLASS/*.jpg" in str(message.value)
    assert "T2TBUILD_DATA" in str(message.value)


NOISE = "train.data={kind: fake, image_size: 32, samples: 8, num_classes: 4}"


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_a_timm_model_is_trained_by_the_same_recipe(tmp_path: Path, name: str) -> None:
    changes = [
        f"model={{kind: timm, name: {name}}}",
        "train.data={kind: fake, image_size: 32, samples: 8, num_classes: 4}",
    ]
    changes += ["train.epochs=1", "train.batch_size=4", "train.ema=0.5", "train.drop_path=0.1", "train.freeze=[head]"]
    result = train(load_spec("t2t_vit_7", changes), tmp_path / "run")
    assert math.isfinite(result.test_loss)


def test_an_option_that_a_timm_model_lacks_raises_at_its_field(tmp_path: Path) -> None:
    changes = [
        "model={kind: timm, name: resnet18}",
        "train.data={kind: fake, image_size: 32, samples: 8, num_classes: 4}",
    ]
    changes += ["train.batch_size=4", f"train.distill={{teacher: {tmp_path}}}"]
    with pytest.raises(FieldError, match=r"train\.distill\.token: timm's ResNet has no distillation token"):
        train(load_spec("t2t_vit_7", changes), tmp_path / "run")


def test_gradient_checkpointing_changes_nothing_but_memory(tmp_path: Path) -> None:
    for name, extra in (("plain", []), ("kept", ["train.checkpoint_gradients=true"])):
        train(load_spec("t2t_vit_7", [*TINY, *extra]), tmp_path / name)
    plain, kept = weights_of(tmp_path / "plain"), weights_of(tmp_path / "kept")
    for key, value in plain.items():
        torch.testing.assert_close(value, kept[key])


def test_a_checkpoint_opens_in_timm(source: Path) -> None:
    import timm

    import t2tbuild.timm  # noqa: F401

    folder = sorted((source / "checkpoints").iterdir())[-1]
    opened = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    spec = load_spec(source / "spec.yaml")
    own = build_model(spec.model).eval()
    own.load_state_dict(weights_of(source))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(opened(images), own(images))


def test_a_brace_in_the_path_of_weights_changes_nothing(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "{run} {0}"
    folder.mkdir()
    save_file(weights_of(source), folder / "weights{}.safetensors")
    reports: list[Report] = []
    spec = resolve(load_spec("t2t_vit_7", TINY))
    weights = Weights(file=str(folder / "weights{}.safetensors"))
    init_model(spec.model_copy(update={"weights": weights}), reports.append)
    assert reports == [Notice(f"training starts from {folder}/weights{{}}.safetensors")]


def test_a_brace_in_the_path_of_an_invalid_checkpoint_changes_nothing(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "{run} {0}"
    shutil.copytree(source, run)
    (latest,) = (run / "checkpoints").iterdir()
    invalid = latest.with_name("step-000000009")
    shutil.copytree(latest, invalid)
    (invalid / "model.safetensors").write_bytes(b"cut")
    reports: list[Report] = []
    spec = resolve(load_spec("t2t_vit_7", TINY))
    init_model(spec.model_copy(update={"weights": Weights(file=str(run))}), reports.append)
    (notice,) = reports
    assert isinstance(notice, Notice)
    assert f"starts from {latest}" in notice.text
    assert "step-000000009: model.safetensors changed" in notice.text
