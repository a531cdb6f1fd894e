"""What a training spec means, all defaults filled in. Torch-free, so that its errors come at once."""

from typing import Any

from t2tbuild.spec.data import FolderData
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import classes_of


def resolve(spec: Spec) -> Spec:
    """The spec as it is trained: the recipe filled in, the model with the recipe's image size, classes and options.

    The classes of a folder of images are known only where it lies: see `locate`. Raises FieldError when the data's
    images are too small for the model's tokenizer, or the recipe wants what the model does not have.
    """
    recipe = spec.train or TrainSpec()
    data = recipe.data
    size = data.image_size or spec.model.image_size
    blame = ("train", "data", "image_size"), "write a larger train.data.image_size"
    model = with_changes(spec.model, {"image_size": size}, f"trained on {data.kind} at {size} pixels", blame)
    changes = _ours(model, recipe) if isinstance(model, ModelSpec) else _timms(model, recipe)
    if not isinstance(data, FolderData):
        changes["num_classes"] = data.num_classes
    return Spec(
        version=1, model=with_changes(model, changes, "trained by this recipe"), weights=spec.weights, train=recipe
    )


def locate(spec: Spec) -> Spec:
    """A resolved spec with the number of classes that its folder of images has.

    Raises FieldError that says what was expected and where it was looked for when the data is not there.
    """
    assert spec.train is not None
    classes = classes_of(spec.train.data)
    purpose = f"trained on {classes} classes"
    return spec.model_copy(update={"model": with_changes(spec.model, {"num_classes": classes}, purpose)})


def _ours(model: ModelSpec, recipe: TrainSpec) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if recipe.drop_path is not None:
        changes["backbone"] = model.backbone.model_dump() | {"drop_path": recipe.drop_path}
    if recipe.distill is not None and recipe.distill.token == "distillation":  # noqa: S105
        changes["distillation_token"] = True
    return changes


def _timms(model: TimmModel, recipe: TrainSpec) -> dict[str, Any]:
    if recipe.drop_path is None:
        return {}
    return {"args": {**model.args, "drop_path_rate": recipe.drop_path}}
