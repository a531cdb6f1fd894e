"""Files that exist in practice: checkpoints of the authors, timm and mmpretrain, damaged ones, malicious ones."""

import argparse
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2tbuild import build_model, load_spec, load_weights, train
from t2tbuild.errors import InputError
from t2tbuild.modules.position import resize_position, sinusoid_table
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.model import TimmModel
from t2tbuild.weights.read import position_metadata, read_weights


@pytest.fixture
def trained(small: ModelSpec) -> T2TViT:
    """A model with weights other than its random initialisation."""
    torch.manual_seed(11)
    model = build_model(small)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    return model


def same(model: T2TViT, other: T2TViT, but: tuple[str, ...] = ()) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items() if key not in but)


def official(trained: T2TViT, path: Path) -> Path:
    """Save a checkpoint as the released training script does: two state dicts of a wrapped model, and its options."""
    ema = {f"module.{key}": value for key, value in trained.state_dict().items()}
    raw = {key: torch.zeros_like(value) for key, value in ema.items()}
    options = argparse.Namespace(model="T2t_vit_14", lr=5e-4)
    torch.save({"epoch": 309, "arch": "T2t_vit_14", "args": options, "state_dict": raw, "state_dict_ema": ema}, path)
    return path


def test_the_authors_checkpoint_loads_its_averaged_weights(trained: T2TViT, small: ModelSpec, tmp_path: Path) -> None:
    model = build_model(small)
    load_weights(model, official(trained, tmp_path / "81.5_T2T_ViT_14.pth.tar"))
    assert same(model, trained)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {}, "model_ema": state},
        lambda state: {"state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
        lambda state: {
            "state_dict": state,
            "ema_state_dict": {"steps": torch.zeros(1)},
        },  # mmengine: averages swapped in
    ],
)
def test_wrapped_state_dicts(trained: T2TViT, small: ModelSpec, tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(trained.state_dict()), tmp_path / "weights.pth")
    model = build_model(small)
    load_weights(model, tmp_path / "weights.pth")
    assert same(model, trained)


def test_safetensors_and_folders(trained: T2TViT, small: ModelSpec, tmp_path: Path) -> None:
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    for path in (tmp_path / "model.safetensors", tmp_path, f"local-dir:{tmp_path}"):
        model = build_model(small)
        load_weights(model, path)
        assert same(model, trained)


def test_mmpretrains_names(tmp_path: Path) -> None:
    """The names of mmpretrain's T2T_ViT with VisionTransformerClsHead, whose position embedding is a buffer."""
    spec = load_spec("t2t_vit_t_14", ["model.backbone.depth=2", "model.image_size=64"]).model
    torch.manual_seed(5)
    trained = build_model(spec)
    theirs = {}
    for key, value in trained.state_dict().items():
        name = re.sub(r"norm([12])", r"ln\1", key)
        name = name.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
        name = name.replace("blocks.", "encoder.").replace("head.", "layers.head.")
        theirs[f"head.{name}" if "head" in name else f"backbone.{name}"] = value
    assert "backbone.encoder.1.ffn.layers.0.0.weight" in theirs
    assert "backbone.tokens_to_token.attention1.ln1.weight" in theirs
    torch.save({"meta": {"epoch": 310}, "state_dict": theirs}, tmp_path / "t2t-vit-t-14.pth")
    model = build_model(spec)
    assert isinstance(model, T2TViT)
    assert isinstance(trained, T2TViT)
    load_weights(model, tmp_path / "t2t-vit-t-14.pth")
    assert same(model, trained)


def test_a_run_directory_loads_its_newest_valid_checkpoint(tmp_path: Path) -> None:
    tiny = ["train.epochs=2", "train.data.image_size=16", "model.backbone.depth=1", "train.batch_size=512"]
    run = train(load_spec("t2t_vit_7", tiny), tmp_path / "run").run
    spec = load_spec(run / "spec.yaml").model
    model = build_model(spec)
    load_weights(model, run)
    older, newest = sorted((run / "checkpoints").iterdir())
    assert torch.equal(model.state_dict()["head.weight"], load_file(newest / "model.safetensors")["head.weight"])

    damaged = newest / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    load_weights(model, run)
    assert torch.equal(model.state_dict()["head.weight"], load_file(older / "model.safetensors")["head.weight"])
    with pytest.raises(InputError, match=r"model.safetensors changed since it was written"):
        load_weights(model, newest)


def test_every_key_that_does_not_match_is_listed_and_nothing_is_loaded(
    trained: T2TViT, small: ModelSpec, tmp_path: Path
) -> None:
    state = trained.state_dict()
    state["strange.weight"] = state.pop("norm.weight")
    state["blocks.0.mlp.fc1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "weights.pth")
    model, before = build_model(small), build_model(small)
    before.load_state_dict(model.state_dict())
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "weights.pth")
    assert str(caught.value).splitlines()[1:] == [
        "missing (1): norm.weight",
        "unexpected (1): strange.weight",
        "of another shape (1): blocks.0.mlp.fc1.bias [3], the model has [64]",
    ]
    assert same(model, before)


def test_another_number_of_classes_needs_reset_head(trained: T2TViT, small: ModelSpec, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    model = build_model(small.model_copy(update={"num_classes": 3}))
    fresh = model.head.weight.detach().clone()
    with pytest.raises(InputError, match=r"head.weight \[10, 32\], the model has \[3, 32\][^$]*reset_head: true"):
        load_weights(model, tmp_path / "weights.pth")
    load_weights(model, tmp_path / "weights.pth", reset_head=True)
    assert torch.equal(model.head.weight, fresh)
    assert same(model, trained, but=("head.weight", "head.bias"))


def at(spec: ModelSpec, size: Any, **backbone: Any) -> T2TViT:
    changed = spec.backbone.model_copy(update=backbone)
    return build_model(spec.model_copy(update={"image_size": size, "backbone": changed}))


@pytest.mark.parametrize("position", ["sinusoid", "learned"])
def test_a_position_embedding_of_another_grid_is_interpolated(small: ModelSpec, tmp_path: Path, position: str) -> None:
    """A constant table stays constant, the row of the class token is unchanged, and the grid may be rectangular."""
    square = at(small, 64, position=position)
    square.pos_embed.data[:, 0], square.pos_embed.data[:, 1:] = 5, 2
    torch.save(square.state_dict(), tmp_path / "square.pth")
    wide = at(small, (48, 96), position=position)
    load_weights(wide, tmp_path / "square.pth")
    assert wide.grid == (3, 6)
    assert wide.pos_embed[0, 0].unique().tolist() == [5]
    torch.testing.assert_close(wide.pos_embed[0, 1:], torch.full((18, 32), 2.0))
    assert wide.pos_embed.requires_grad == (position == "learned")


def distilled(spec: ModelSpec, **changes: Any) -> T2TViT:
    return build_model(spec.model_copy(update={"distillation_token": True} | changes))


@pytest.mark.parametrize("size", [32, 64])
def test_a_file_without_distillation_token_is_refused(
    trained: T2TViT, small: ModelSpec, tmp_path: Path, size: int
) -> None:
    """So is a file with one for a model without, for any grid; reset_head does not excuse a missing token."""
    torch.save(trained.state_dict(), tmp_path / "plain.pth")
    rows = 2 + (size // 16) ** 2
    message = f"of another shape (1): pos_embed [1, 5, 32], the model has [1, {rows}, 32]"
    model = distilled(small, image_size=size)
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "plain.pth")
    assert str(caught.value).splitlines()[1:] == ["missing (3): dist_token; head_dist.weight; head_dist.bias", message]
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "plain.pth", reset_head=True)
    assert str(caught.value).splitlines()[1:] == ["missing (1): dist_token", message]
    torch.save(model.state_dict(), tmp_path / "distilled.pth")
    with pytest.raises(
        InputError, match=r"unexpected \(3\): dist_token; head_dist.weight; head_dist.bias\nof another shape"
    ):
        load_weights(build_model(small), tmp_path / "distilled.pth")


def test_a_distilled_model_at_another_size_with_other_classes(small: ModelSpec, tmp_path: Path) -> None:
    """Both prefix rows are unchanged, the grid is interpolated, and reset_head resets both heads."""
    square = distilled(small, image_size=64)
    square.pos_embed.data.normal_()
    torch.save(square.state_dict(), tmp_path / "square.pth")
    wide = distilled(small, image_size=(48, 96), num_classes=3)
    with pytest.raises(InputError, match=r"of another shape \(4\): head.weight.*head_dist.bias[^$]*reset_head: true"):
        load_weights(wide, tmp_path / "square.pth")
    load_weights(wide, tmp_path / "square.pth", reset_head=True)
    assert torch.equal(wide.pos_embed, resize_position(square.pos_embed, (4, 4), (3, 6), prefix=2))
    assert torch.equal(wide.pos_embed[:, :2], square.pos_embed[:, :2])
    assert torch.equal(wide.state_dict()["dist_token"], square.state_dict()["dist_token"])


def test_interpolation_keeps_rows_and_columns_apart(small: ModelSpec, tmp_path: Path) -> None:
    """A table that increases along the rows only does so after the resize as well."""
    square = at(small, 128)
    square.pos_embed.data[0, 1:] = torch.arange(8.0).repeat_interleave(8)[:, None]
    save_file(square.state_dict(), tmp_path / "square.safetensors")
    wide = at(small, (256, 64))
    with pytest.raises(InputError, match=r"64 positions is not known"):  # 8 x 8 and 16 x 4 are as many
        load_weights(wide, tmp_path / "square.safetensors")
    load_weights(wide, tmp_path / "square.safetensors", grid=(8, 8))
    table = wide.pos_embed[0, 1:, 0].unflatten(0, wide.grid)
    torch.testing.assert_close(table, table[:, :1].expand(-1, 4))
    assert (table[1:, 0] > table[:-1, 0] - 0.1).all()
    assert table[8, 0] == pytest.approx(3.75, abs=0.2)


def test_a_table_of_the_models_own_grid_is_loaded_unchanged(small: ModelSpec, tmp_path: Path) -> None:
    """As for the released weights for 384 pixels, whose table is the one that the authors trained with."""
    stored = at(small, 64)
    stored.pos_embed.data.normal_()
    torch.save(stored.state_dict(), tmp_path / "own.pth")
    model = at(small, 64)
    load_weights(model, tmp_path / "own.pth")
    assert torch.equal(model.pos_embed, stored.pos_embed)


def test_a_file_without_a_table_keeps_the_models_sinusoids(trained: T2TViT, small: ModelSpec, tmp_path: Path) -> None:
    state = trained.state_dict()
    del state["pos_embed"]
    torch.save(state, tmp_path / "weights.pth")
    model = build_model(small)
    load_weights(model, tmp_path / "weights.pth")
    assert torch.equal(model.pos_embed, sinusoid_table(5, 32))
    with pytest.raises(InputError, match=r"missing \(1\): pos_embed"):
        load_weights(at(small, 32, position="learned"), tmp_path / "weights.pth")


def test_an_ambiguous_grid_must_be_given(small: ModelSpec, tmp_path: Path) -> None:
    wide = at(small, (48, 96))
    wide.pos_embed.data.normal_()
    torch.save(wide.state_dict(), tmp_path / "wide.pth")
    square = at(small, 64)
    with pytest.raises(InputError, match=r"18 positions is not known; write weights: \{file"):
        load_weights(square, tmp_path / "wide.pth")
    with pytest.raises(InputError, match=r"18 positions, not a grid of 3, 5"):
        load_weights(square, tmp_path / "wide.pth", grid=(3, 5))
    load_weights(square, tmp_path / "wide.pth", grid=(3, 6))
    other = at(small, 64)
    wide.set_input_size(64)
    other.load_state_dict(wide.state_dict())
    assert torch.equal(square.pos_embed, other.pos_embed)


class Boom:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_is_refused_with_its_contents(tmp_path: Path, zipped: bool) -> None:
    file, marker = tmp_path / "evil.pth", tmp_path / "ran"
    if zipped:
        torch.save({"state_dict": {"x": torch.zeros(1)}, "extra": Boom(marker)}, file)
    else:
        file.write_bytes(pickle.dumps({"extra": Boom(marker)}, protocol=2))
    with pytest.raises(InputError, match=r"more than tensors: (os|posix)\.system; .*can run any code"):
        read_weights(file)
    assert not marker.exists()


def test_damaged_and_foreign_files(trained: T2TViT, tmp_path: Path) -> None:
    good = official(trained, tmp_path / "good.pth.tar").read_bytes()
    for content in (good[: len(good) // 2], b"", b"not a checkpoint", os.urandom(1000)):
        (tmp_path / "bad.pth").write_bytes(content)
        (tmp_path / "bad.safetensors").write_bytes(content)
        for name in ("bad.pth", "bad.safetensors"):
            with pytest.raises(InputError, match=rf"{name}: (not readable|was not loaded)"):
                read_weights(tmp_path / name)
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match=r"not a state dict: it holds the keys epoch, lr; expected one of"):
        read_weights(tmp_path / "numbers.pth")
    torch.save({0: torch.zeros(1)}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match=r"not a state dict: it holds the keys 0"):
        read_weights(tmp_path / "numbers.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"not a state dict: it holds list"):
        read_weights(tmp_path / "list.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"a folder without model.safetensors or pytorch_model.bin; it holds nothing"):
        read_weights(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file or folder"):
        read_weights(tmp_path / "nowhere.pth")


def test_a_spec_starts_its_training_from_weights(tmp_path: Path) -> None:
    """At another image size and with another number of classes; a missing file fails before there is a run."""
    source = build_model(load_spec("t2t_vit_7", ["model.backbone.depth=1", "model.image_size=48"]).model)
    source.state_dict()["norm.bias"].fill_(7)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "start.pth")
    text = "version: 1\nmodel: t2t_vit_7\nweights: {file: start.pth, reset_head: true}\n"
    (tmp_path / "mine.yaml").write_text(text)
    tiny = ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1", "train.lr=1e-9", "train.min_lr=0"]
    run = train(load_spec(tmp_path / "mine.yaml", tiny), tmp_path / "run").run
    (newest,) = (run / "checkpoints").iterdir()
    ended = load_file(newest / "model.safetensors")
    torch.testing.assert_close(ended["norm.bias"], torch.full((256,), 7.0))
    assert ended["head.weight"].shape == (10, 256)
    (tmp_path / "mine.yaml").write_text(text.replace("start.pth", "strat.pth"))
    with pytest.raises(InputError, match=r"strat.pth: no such file or folder of weights"):
        train(load_spec(tmp_path / "mine.yaml", tiny), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_run_resumes_without_the_weights_that_it_started_from(tmp_path: Path) -> None:
    source = build_model(load_spec("t2t_vit_7", ["model.backbone.depth=1", "model.image_size=48"]).model)
    torch.save(source.state_dict(), tmp_path / "start.pth")
    (tmp_path / "mine.yaml").write_text("version: 1\nmodel: t2t_vit_7\nweights: {file: start.pth}\n")
    tiny = ["train.epochs=1", "train.data.image_size=16", "model.backbone.depth=1"]
    spec = load_spec(tmp_path / "mine.yaml", [*tiny, "weights.reset_head=false"])
    with pytest.raises(InputError, match="reset_head: true"):
        train(spec, tmp_path / "run")
    spec = load_spec(tmp_path / "mine.yaml", tiny)
    result = train(spec, tmp_path / "run")  # the failed run left no files
    (tmp_path / "start.pth").unlink()
    assert train(spec, tmp_path / "run") == result
    metrics = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    (tmp_path / "run/metrics.jsonl").write_text(metrics[0] + "\n")
    assert train(spec, tmp_path / "run").test_loss == result.test_loss
    assert load_spec(tmp_path / "run/spec.yaml").model.num_classes == 10


def test_our_own_files_contain_their_grid(small: ModelSpec, tmp_path: Path) -> None:
    """A table with as many positions but another grid is resized; a grid that contradicts the file is refused."""
    wide = at(small, (64, 96))
    wide.pos_embed.data.normal_()
    save_file(wide.state_dict(), tmp_path / "w.safetensors", position_metadata(wide))
    tall = at(small, (96, 64))
    load_weights(tall, tmp_path / "w.safetensors")
    assert not torch.equal(tall.pos_embed, wide.pos_embed)
    assert torch.equal(tall.pos_embed, resize_position(wide.pos_embed, (4, 6), (6, 4)))
    with pytest.raises(InputError, match=r"has the grid \(4, 6\), not \(6, 4\)"):
        load_weights(tall, tmp_path / "w.safetensors", grid=(6, 4))
    save_file(wide.state_dict(), tmp_path / "w.safetensors", {"position_grid": "someone else's"})
    load_weights(at(small, (64, 96)), tmp_path / "w.safetensors")


def test_reset_head_of_a_timm_model(tmp_path: Path) -> None:
    spec = TimmModel(name="resnet10t", num_classes=5)
    torch.save(build_model(spec).state_dict(), tmp_path / "r.pth")
    model = build_model(spec.model_copy(update={"num_classes": 3}))
    with pytest.raises(InputError, match=r"fc.weight \[5, 512\], the model has \[3, 512\][^$]*reset_head: true"):
        load_weights(model, tmp_path / "r.pth")
    load_weights(model, tmp_path / "r.pth", reset_head=True)
