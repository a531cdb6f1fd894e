"""Resolve a training spec: fill in the defaults. Torch-free, so that its errors come at once."""

from typing import Any

from t2tbuild.spec.data import UserImages
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import count_classes, resolve_data


def resolve(spec: Spec) -> Spec:
    """Return the spec with its recipe, and with the model of that recipe's image size, classes and options.

    What needs the files of the data is left to `resolve_num_classes`. Raises FieldError when the images are too small
    for the model's tokenizer, or the model lacks an option of the recipe.
    """
    recipe = spec.train or TrainSpec()
    data = recipe.data
    size = data.image_size or spec.model.image_size
    place_and_hint = ("train", "data", "image_size"), "write a larger train.data.image_size"
    model = with_changes(spec.model, {"image_size": size}, f"trained on {data.kind} at {size} pixels", place_and_hint)
    changes = _t2t_changes(model, recipe) if isinstance(model, ModelSpec) else _timm_changes(model, recipe)
    if not isinstance(data, UserImages):
        changes["num_classes"] = data.num_classes
    return Spec(
        version=1, model=with_changes(model, changes, "trained by this recipe"), weights=spec.weights, train=recipe
    )


def resolve_num_classes(spec: Spec) -> Spec:
    """Return a resolved spec with what needs the files of the data: number of classes, splits, augmentation.

    Raises FieldError with the expected files and their folder when the data is missing.
    """
    assert spec.train is not None
    data = resolve_data(spec.train.data)
    classes = count_classes(data)
    purpose = f"trained on {classes} classes"
    model = with_changes(spec.model, {"num_classes": classes}, purpose)
    return spec.model_copy(update={"model": model, "train": spec.train.model_copy(update={"data": data})})


def _t2t_changes(model: ModelSpec, recipe: TrainSpec) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if recipe.drop_path is not None:
        changes["backbone"] = model.backbone.model_dump() | {"drop_path": recipe.drop_path}
    if recipe.distill is not None and recipe.distill.token == "distillation":  # noqa: S105
        changes["distillation_token"] = True
    return changes


def _timm_changes(model: TimmModel, recipe: TrainSpec) -> dict[str, Any]:
    if recipe.drop_path is None:
        return {}
    return {"args": {**model.args, "drop_path_rate": recipe.drop_path}}
