"""What a path names: a file of weights, an exported folder, a run, or a spec."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2tbuild import build_model, load_spec, manifest
from t2tbuild.errors import InputError
from t2tbuild.spec.weights import Weights
from t2tbuild.training.init_model import init_model
from t2tbuild.training.reports import EpochReport, Notice, StepReport
from t2tbuild.weights.read import read_weights
from t2tbuild.weights.resolve import find_spec, resolve_weights


def make_run(run: Path, checkpoints: int = 2) -> Path:
    """A directory as a training leaves it; the n-th checkpoint holds the number n."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "spec.yaml").write_text("version: 1\nmodel: t2t_vit_7\nweights: start.pth\n")
    for number in range(1, checkpoints + 1):
        folder = run / "checkpoints" / f"epoch-{number:04d}"
        folder.mkdir()
        save_file({"x": torch.tensor([float(number)])}, folder / "model.safetensors")
        manifest.write_manifest(folder, ["model.safetensors"])
    return run


def damage(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")


@pytest.mark.parametrize("named", ["run", "run/spec.yaml", "local-dir:run"])
def test_a_run_gives_its_newest_valid_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("run"))
    older, newest = sorted((run / "checkpoints").iterdir())
    source = resolve_weights(named)
    assert (source.run, source.checkpoint, source.skipped) == (run, newest, ())
    assert source.spec == "run/spec.yaml"
    assert read_weights(named).tensors["x"].tolist() == [2]
    damage(newest)
    source = resolve_weights(named)
    assert source.checkpoint == older
    (reason,) = source.skipped
    assert str(newest) in reason
    assert "model.safetensors" in reason
    assert read_weights(named).tensors["x"].tolist() == [1]


def test_a_run_without_a_valid_checkpoint_gives_none(tmp_path: Path) -> None:
    """Loading it says why; the weights of its spec, which training started from, do not take their place."""
    run = make_run(tmp_path / "run", checkpoints=1)
    damage(run / "checkpoints/epoch-0001")
    source = resolve_weights(run)
    assert (source.run, source.checkpoint, len(source.skipped)) == (run, None, 1)
    chosen = source.choose(load_spec(run / "spec.yaml"))
    assert chosen is not None
    assert chosen.file == str(run)
    with pytest.raises(InputError, match="no valid checkpoint") as caught:
        read_weights(chosen.file)
    assert "epoch-0001" in str(caught.value)


def test_files_and_exported_folders_are_checkpoints_themselves(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    torch.save({"x": torch.ones(1)}, tmp_path / "old.pth.tar")
    for path in (tmp_path, tmp_path / "model.safetensors", tmp_path / "old.pth.tar"):
        for named in (str(path), f"local-dir:{path}"):
            source = resolve_weights(named)
            assert (source.run, source.checkpoint, source.file) == (None, path, str(path))


def test_a_spec_gives_its_own_weights(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("version: 1\nmodel: t2t_vit_7\nweights: start.pth\n")
    (tmp_path / "bare.yaml").write_text("version: 1\nmodel: t2t_vit_7\n")
    for named, expected in (
        (tmp_path / "spec.yaml", str(tmp_path / "start.pth")),
        (tmp_path, str(tmp_path / "start.pth")),  # no run: it has no checkpoints
        (tmp_path / "bare.yaml", None),
        ("t2t_vit_7", None),
    ):
        source = resolve_weights(named)
        chosen = source.choose(load_spec(source.spec))
        assert (source.run, source.checkpoint) == (None, None)
        assert (chosen and chosen.file) == expected


@pytest.mark.parametrize("named", ["nowhere.pth", "no\0name", "n" * 5000, ""])
def test_a_path_that_names_nothing_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = resolve_weights(named)
    assert (source.run, source.checkpoint, source.spec) == (None, None, find_spec(named))
    with pytest.raises(InputError, match=r"no such file or folder|a folder without model.safetensors"):
        read_weights(named)


def test_training_starts_from_weights_whose_path_has_braces(tmp_path: Path) -> None:
    spec = load_spec("t2t_vit_7", ["model.backbone.depth=1", "model.image_size=32", "train.epochs=1"])
    run = make_run(tmp_path / "{run}", checkpoints=2)
    older, newest = sorted((run / "checkpoints").iterdir())
    save_file(build_model(spec.model).state_dict(), older / "model.safetensors")
    manifest.write_manifest(older, ["model.safetensors"])
    damage(newest)
    notices: list[StepReport | EpochReport | Notice] = []
    started = spec.model_copy(update={"weights": Weights(file=str(run))})
    model = init_model(started, notices.append)
    assert torch.equal(model.state_dict()["norm.weight"], load_file(older / "model.safetensors")["norm.weight"])
    (notice,) = notices
    assert isinstance(notice, Notice)
    assert str(older) in str(notice)
    assert str(newest) in str(notice)
