"""Every value of the shipped trainings is the paper's, see tests/data/paper_tables.yaml."""

from pathlib import Path
from typing import Any

import pytest

from t2tbuild import load_spec
from t2tbuild.spec import Spec, catalog
from t2tbuild.spec.data import IMAGENET_MEAN, IMAGENET_STD, CifarData, FolderData
from t2tbuild.spec.diagnostics.yaml_source import read_file
from t2tbuild.spec.load import read_spec
from t2tbuild.spec.optimizer import AdamW, Sgd
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.resolve import resolve

TABLES = read_file(Path(__file__).parents[1] / "data" / "paper_tables.yaml").data
RECIPES: dict[str, Any] = TABLES["recipes"]
FIXED = {"schedule", "dropout", "loss", "no_decay"}  # not fields of a spec: cosine, none, cross entropy, biases
IMAGENET = {7: "lite", 12: "lite", 14: "14", 19: "19", 24: "24"}
DISTILLED = (7, 12)
CIFAR = [(depth, kind) for depth in (14, 19) for kind in ("cifar10", "cifar100")]


def recipe_of(name: str) -> TrainSpec:
    recipe = load_spec(name).train
    assert recipe is not None
    return recipe


def imagenet_values(recipe: TrainSpec) -> dict[str, Any]:
    """Return the recipe with the names of the table, without lr and weight_decay."""
    data, mixup = recipe.data, recipe.mixup
    assert isinstance(data, FolderData)
    assert data.augment is not None
    assert mixup is not None
    return {
        "optimizer": recipe.optimizer.kind,
        "epochs": recipe.epochs,
        "cooldown_epochs": recipe.cooldown_epochs,
        "warmup_epochs": recipe.warmup,
        "warmup_lr": recipe.warmup_lr,
        "min_lr": recipe.min_lr,
        "total_batch": recipe.batch_size,
        "mixup": mixup.mixup,
        "cutmix": mixup.cutmix,
        "mixup_prob": mixup.prob,
        "switch_prob": mixup.switch_prob,
        "label_smoothing": recipe.label_smoothing,
        "auto_augment": data.augment.auto_augment,
        "random_erasing": data.augment.random_erasing,
        "erasing_mode": data.augment.erasing_mode,
        "color_jitter": data.augment.color_jitter,
        "drop_path": recipe.drop_path,
        "ema": recipe.ema,
        "clip_grad": recipe.clip_grad,
        "crop_pct": data.crop_pct,
        "interpolation": data.interpolation,
    }


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        *((f"t2t_vit_{depth}_imagenet", depth) for depth in IMAGENET),
        *((f"t2t_vit_{depth}_distilled_imagenet", depth) for depth in DISTILLED),
    ],
)
def test_the_recipe_for_imagenet_is_the_papers(name: str, depth: int) -> None:
    recipe, expected, size = recipe_of(name), RECIPES["imagenet"], IMAGENET[depth]
    values = imagenet_values(recipe)
    assert values == {key: expected[key] for key in values}
    assert expected.keys() - values.keys() - FIXED == {"lr", "weight_decay"}
    assert (recipe.lr, recipe.weight_decay) == (expected["lr"][size], expected["weight_decay"][size])
    assert set(expected["lr"]) == set(expected["weight_decay"]) == set(IMAGENET.values())


@pytest.mark.parametrize("depth", IMAGENET)
def test_other_settings_are_those_of_the_released_code(depth: int) -> None:
    recipe = recipe_of(f"t2t_vit_{depth}_imagenet")
    data = recipe.data
    assert isinstance(data, FolderData)
    assert data.augment is not None
    assert (data.augment.crop_scale, data.augment.hflip) == ((0.08, 1), 0.5)
    assert (data.mean, data.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert recipe.optimizer == AdamW(betas=(0.9, 0.999), eps=1e-8)
    assert (recipe.lr_scale, recipe.layer_decay, recipe.freeze, recipe.distill) == (None, None, (), None)
    assert load_spec(f"t2t_vit_{depth}_imagenet").weights is None


@pytest.mark.parametrize(("depth", "kind"), CIFAR)
def test_the_transfer_to_cifar_is_the_papers(depth: int, kind: str) -> None:
    spec = load_spec(f"t2t_vit_{depth}_{kind}")
    recipe, expected = spec.train, RECIPES["cifar_transfer"]
    assert recipe is not None
    assert recipe.lr_scale is not None
    assert isinstance(recipe.optimizer, Sgd)
    assert isinstance(recipe.data, CifarData)
    values = {
        "optimizer": recipe.optimizer.kind,
        "momentum": recipe.optimizer.momentum,
        "weight_decay": recipe.weight_decay,
        "epochs": recipe.epochs,
        "min_lr": recipe.min_lr,
        "lr": recipe.lr,
        "batch": recipe.batch_size,
        "lr_scale": {
            "tokenizer": recipe.lr_scale.tokenizer,
            "blocks": recipe.lr_scale.backbone,
            "head": recipe.lr_scale.head,
        },
        "resize": recipe.data.image_size,
        "random_crop_padding": recipe.data.crop_padding,
        "hflip": recipe.data.hflip,
        "drop_path": recipe.drop_path,
    }
    assert values == {key: expected[key] for key in values}
    assert expected.keys() - values.keys() <= FIXED
    assert recipe.data.kind == kind
    nothing = (recipe.warmup, recipe.cooldown_epochs, recipe.label_smoothing, recipe.mixup, recipe.ema)
    assert nothing == (0, 0, 0, None, None)
    assert (recipe.clip_grad, recipe.optimizer.nesterov, recipe.freeze) == (None, False, ())
    assert spec.weights is not None
    assert spec.weights.file == f"released:t2t_vit_{depth}"


@pytest.mark.parametrize("depth", DISTILLED)
def test_a_distillation_is_its_recipe_and_deits_teacher(depth: int) -> None:
    recipe = recipe_of(f"t2t_vit_{depth}_distilled_imagenet")
    assert recipe.distill is not None
    assert recipe.model_copy(update={"distill": None}) == recipe_of(f"t2t_vit_{depth}_imagenet")
    fields = recipe.distill.model_dump(exclude={"weights", "temperature"})
    deit = {"teacher": "timm:regnety_160.deit_in1k", "loss": "hard", "token": "distillation", "weight": 0.5}
    assert fields == deit


def test_deits_teacher_is_in_timm() -> None:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg("regnety_160.deit_in1k")
    assert config is not None
    assert (config.tag, config.input_size, config.num_classes) == ("deit_in1k", (3, 224, 224), 1000)


def test_the_fine_tuning_at_384_changes_only_the_stated_fields() -> None:
    tuned, plain = recipe_of("t2t_vit_14_384_finetune"), recipe_of("t2t_vit_14_imagenet")
    changed = {"epochs", "cooldown_epochs", "warmup_epochs", "lr", "min_lr", "weight_decay"}
    assert {field for field in TrainSpec.model_fields if getattr(tuned, field) != getattr(plain, field)} == changed


MOBILE = TABLES["table_4_mobilenet"]
PRINTED = [
    *((f"t2t_vit_{depth}_imagenet", TABLES["table_1_structure"][f"t2t_vit_{depth}"]["top1"]) for depth in IMAGENET),
    *(
        (f"t2t_vit_{n}_distilled_imagenet", TABLES["table_4_mobilenet"][f"t2t_vit_{n}_distilled"]["top1"])
        for n in (7, 12)
    ),
    *((f"t2t_vit_{depth}_{kind}", TABLES["table_5_transfer"][f"t2t_vit_{depth}"][kind]) for depth, kind in CIFAR),
    ("t2t_vit_14_384_finetune", TABLES["table_2_vit"]["t2t_vit_14_384"]["top1"]),
]


@pytest.mark.parametrize(("name", "top1"), PRINTED)
def test_the_comment_of_a_recipe_has_the_papers_accuracy_and_the_command(name: str, top1: float) -> None:
    note = [line for line in catalog.find(name).read_text().splitlines() if line.startswith("# ")]
    assert f" {top1}% " in note[1]
    assert note[-1].startswith(f"# t2tbuild train {name} ")
    assert "train.data.root=" in note[-1]


def test_every_shipped_training_is_compared_with_the_paper_or_is_on_digits() -> None:
    assert {name for name in catalog.names("training") if "digits" not in name} == {name for name, _ in PRINTED}


@pytest.mark.parametrize("name", catalog.names("training"))
def test_every_training_resolves(name: str) -> None:
    document = read_spec(name)
    assert document.warnings == []
    with document.located_errors():
        resolved = resolve(document.spec)
    assert isinstance(resolved, Spec)
    assert resolved.train == document.spec.train
    recipe = resolved.train
    assert recipe is not None
    assert resolved.model.image_size == (recipe.data.image_size or document.spec.model.image_size)
    if not isinstance(recipe.data, FolderData):
        assert resolved.model.num_classes == recipe.data.num_classes
    if recipe.drop_path is not None:
        assert resolved.model.backbone.drop_path == recipe.drop_path
