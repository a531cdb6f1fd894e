"""The teacher of a distillation: a run, a spec with weights, or a model of timm."""

from pathlib import Path
from typing import Any

from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import FieldError, SpecError
from t2tbuild.spec.data import Streamed
from t2tbuild.spec.distill import TIMM_TEACHER, Distillation
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data import Data
from t2tbuild.training.data.transforms import channel_values
from t2tbuild.weights.load import load_named

_TEACHER = ("train", "distill", "teacher")


def load_teacher(spec: Distillation, student: AnyModel, data: Data) -> nn.Module:
    """The trained teacher, in eval mode. Its `pretrained_cfg` says by which mean and std its images are normalised.

    Raises FieldError when there is no such teacher, or its images or classes are not the student's.
    """
    if spec.teacher.startswith(TIMM_TEACHER):
        return _of_timm(spec, student)
    run = Path(spec.teacher)
    if (run / "spec.yaml").is_file():
        named = load_spec(run / "spec.yaml")
        weights = spec.weights or Weights(file=str(run))
    else:
        named = _spec_of(spec.teacher)
        weights = spec.weights or _own_weights(named, spec.teacher)
    _require_same(named.model, student)
    teacher = build_model(named.model)
    load_named(teacher, weights)
    own = named.train.data if named.train is not None else None
    mean, std = (data.mean, data.std) if not isinstance(own, Streamed) else channel_values(own, student.in_chans)
    teacher.pretrained_cfg = {"mean": mean, "std": std}  # type: ignore[assignment]  # what its images were made with
    return teacher.eval()


def _spec_of(teacher: str) -> Spec:
    try:
        return load_spec(teacher)
    except SpecError as error:
        if any(diagnostic.line for diagnostic in error.diagnostics):
            raise  # mistakes inside the spec
        message = f"{teacher} is neither a run nor a spec"
        raise FieldError(_TEACHER, "teacher", message, "name a run directory, a spec, or timm:MODEL") from None


def _own_weights(named: Spec, teacher: str) -> Weights:
    if named.weights is None:
        message = f"the spec {teacher} names no weights, so its model has learned nothing"
        raise FieldError(_TEACHER, "teacher", message, "write distill.weights: FILE, or name a run")
    return named.weights


def _of_timm(spec: Distillation, student: AnyModel) -> nn.Module:
    """A model of timm with its pretrained weights, or with those that the spec names."""
    import timm

    name = spec.teacher.removeprefix(TIMM_TEACHER)
    model = TimmModel(
        name=name, image_size=student.image_size, in_chans=student.in_chans, num_classes=student.num_classes
    )
    if spec.weights is not None:
        teacher = build_model(model)
        load_named(teacher, spec.weights)
        return teacher.eval()
    try:
        fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
        args: dict[str, Any] = {"img_size": tuple(student.image)} if fixed else {}
        downloaded: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=student.num_classes, in_chans=student.in_chans, **args
        )
    except Exception as error:  # no such name, no weights, no network: a dozen kinds
        try:
            build_model(model)
        except FieldError as wrong:  # its name, with the nearest ones
            raise FieldError(_TEACHER, "teacher", wrong.message, wrong.hint) from None
        told = f"timm's weights of {name} cannot be had: {type(error).__name__}: {error}".splitlines()[0]
        raise FieldError(_TEACHER, "teacher", told, "write distill.weights: FILE") from None
    learned = timm.models.get_pretrained_cfg_value(name, "num_classes")
    if learned != student.num_classes:
        told = f"{name} was trained on {learned} classes, the student learns {student.num_classes}"
        raise FieldError(_TEACHER, "teacher", told, "write distill.weights: FILE")
    return downloaded.eval()


def _require_same(teacher: AnyModel, student: AnyModel) -> None:
    for field in ("image", "in_chans", "num_classes"):
        theirs, ours = getattr(teacher, field), getattr(student, field)
        if theirs != ours:
            message = f"the teacher {teacher.name} has {field} {theirs}, the student {ours}"
            raise FieldError(_TEACHER, "teacher", message, "train one of them anew")
