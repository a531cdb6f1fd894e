"""Resolve a training spec: fill in the defaults. Torch-free, so that its errors come at once."""

from collections.abc import Sequence
from typing import Any

from t2tbuild.errors import FieldError, InputError
from t2tbuild.spec.data import UserImages
from t2tbuild.spec.label_names import LabelMap, list_names, map_labels, shorten
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import plural
from t2tbuild.spec.weights import Weights
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import class_names, count_training_classes, resolve_data
from t2tbuild.weights.label_names import read_label_names


def resolve(spec: Spec) -> Spec:
    """Return the spec with its recipe, and with the model of that recipe's image size, classes and options.

    What needs the files of the data is left to `resolve_files`. Raises FieldError when the images are too small
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
    model = with_changes(model, changes, "trained by this recipe")
    return Spec(version=1, extensions=spec.extensions, model=model, weights=spec.weights, train=recipe)


def resolve_files(spec: Spec) -> Spec:
    """Return a resolved spec with what needs the files of the data: classes and their names, splits, augmentation.

    Names in the spec stay where the data has only numbers. Raises FieldError with the expected files and their folder
    when the data is missing.
    """
    assert spec.train is not None
    spec = _resolve_data(spec)
    assert spec.train is not None
    classes, names = count_training_classes(spec.train.data), class_names(spec.train.data)
    changes: dict[str, Any] = {"num_classes": classes}
    if names is not None:
        changes["label_names"] = names
    return spec.model_copy(
        update={"model": with_changes(spec.model, changes, f"trained on {plural(classes, 'class')}")}
    )


def _resolve_data(spec: Spec) -> Spec:
    """Return a spec whose data have their splits and augmentation written out."""
    assert spec.train is not None
    train = spec.train.model_copy(update={"data": resolve_data(spec.train.data)})
    return spec.model_copy(update={"train": train})


def require_divisible_batch(recipe: TrainSpec, devices: int) -> None:
    """Raise FieldError unless the batch can be divided among the devices and their passes."""
    divisor = devices * recipe.accumulate
    if recipe.batch_size % divisor:
        message = f"batch_size {recipe.batch_size} is not divisible by {devices} devices"
        passes = f" times {recipe.accumulate} passes" if recipe.accumulate > 1 else ""
        raise FieldError(("train", "batch_size"), "batch-size", message + passes, f"write a multiple of {divisor}")


def resolve_evaluation(spec: Spec, names: Sequence[str] | None) -> tuple[Spec, LabelMap | None]:
    """Return the resolved spec of an evaluation, and the model's class for each label of the data, by name.

    `names` are those of the model's classes. Without them, or where the data has only numbers, labels go by their
    order, and there is no map. Raises FieldError for a class that the model does not know, and
    when the data is missing.
    """
    resolved = _resolve_data(resolve(spec))
    assert resolved.train is not None
    found = None if names is None else class_names(resolved.train.data)
    if names is None or found is None:
        by_order = resolve_files(resolved)
        if found is None and names is not None and len(names) == by_order.model.num_classes:
            named = with_changes(by_order.model, {"label_names": tuple(names)}, "evaluated")
            by_order = by_order.model_copy(update={"model": named})
        return by_order, None
    place = ("file",) if resolved.train.data.kind == "csv" else ("root",)
    field = ("train", "data", *place)
    labels = map_labels(names, found, field)
    changes = {"num_classes": len(names), "label_names": tuple(names)}
    model = with_changes(resolved.model, changes, f"evaluated on {plural(len(found), 'class')}")
    return resolved.model_copy(update={"model": model}), labels


def choose_label_names(spec: Spec, weights: Weights) -> tuple[str, ...] | None:
    """Return the names of the model's classes: those of the spec, else those beside the weights.

    `label_names: null` in the spec means that they have none.
    """
    if "label_names" in spec.model.model_fields_set:
        return spec.model.label_names
    return read_label_names(weights.file)


def require_same_label_names(spec: Spec, weights: Weights) -> None:
    """Raise InputError where a spec and its weights both have names of the classes, and a class has two of them."""
    pairs = zip(read_label_names(weights.file) or (), spec.model.label_names or (), strict=False)
    for label, (of_weights, of_spec) in enumerate(pairs):
        if of_weights != of_spec:
            ours = f"of the spec '{shorten(of_spec)}'"
            message = f"class {label} of the weights {weights.file} is '{shorten(of_weights)}', {ours}"
            hint = f"evaluate {weights.file} with its own spec, or write the names of its classes"
            raise InputError(f"{message}; {hint}: model.label_names=[...], null for none")


def describe_replaced_classes(spec: Spec, resolved: Spec) -> str:
    """Describe the classes of a spec that its data replaced in the resolved spec; empty if it replaced none."""
    assert resolved.train is not None
    given, model, data = spec.model, resolved.model, resolved.train.data
    source = f"the data ({getattr(data, 'root', None) or getattr(data, 'file', None) or data.kind})"
    if "num_classes" in given.model_fields_set and given.num_classes != model.num_classes:
        return f"num_classes: {given.num_classes} of {given.name} is replaced by the {model.num_classes} of {source}"
    if given.label_names is not None and given.label_names != model.label_names:
        names = list_names(model.label_names or ())
        return f"label_names of {given.name} are replaced by those of {source}: {names}"
    return ""


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
