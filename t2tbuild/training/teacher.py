"""The teacher of a distillation: a run, a spec with weights, or a timm model."""

from pathlib import Path
from typing import Any

from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import FieldError, SpecError
from t2tbuild.spec.data import Streamed
from t2tbuild.spec.distill import TIMM_TEACHER, Distillation
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import AnyModel, TimmModel
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data import Data
from t2tbuild.training.data.transforms import channel_statistics
from t2tbuild.training.reports import Listener, Notice
from t2tbuild.weights.load import load_spec_weights
from t2tbuild.weights.resolve import resolve_weights

_TEACHER = ("train", "distill", "teacher")


def load_teacher(spec: Distillation, student: AnyModel, data: Data, listener: Listener = lambda _: None) -> nn.Module:
    """Load the trained teacher, in eval mode; its `pretrained_cfg` has the mean and std of its training images.

    The listener gets the licence of weights that timm downloads.

    Raises FieldError when there is no such teacher, or its image size, channels or classes differ from the student's.
    """
    if spec.teacher.startswith(TIMM_TEACHER):
        return _load_timm_teacher(spec, student, listener)
    source = resolve_weights(spec.teacher)
    teacher_spec = _load_teacher_spec(source.spec)
    if spec.weights is not None:
        weights = spec.weights
    elif source.run is not None or Path(source.path).is_dir():
        weights = Weights(file=source.file)
    else:
        weights = _weights_of_spec(teacher_spec, spec.teacher)
    _require_same_shapes(teacher_spec.model, student)
    teacher = build_model(teacher_spec.model)
    load_spec_weights(teacher, weights)
    teacher_data = teacher_spec.train.data if teacher_spec.train is not None else None
    mean, std = data.mean, data.std
    if isinstance(teacher_data, Streamed):
        mean, std = channel_statistics(teacher_data, student.in_chans)
    teacher.pretrained_cfg = {"mean": mean, "std": std}  # type: ignore[assignment]
    return teacher.eval()


def _load_teacher_spec(teacher: str) -> Spec:
    try:
        return load_spec(teacher)
    except SpecError as error:
        if any(diagnostic.line for diagnostic in error.diagnostics):
            raise  # errors inside the spec
        message = f"{teacher} is neither a run nor a spec"
        raise FieldError(_TEACHER, "teacher", message, "name a run directory, a spec, or timm:MODEL") from None


def _weights_of_spec(teacher_spec: Spec, teacher: str) -> Weights:
    if teacher_spec.weights is None:
        message = f"the spec {teacher} has no weights, so its model is untrained"
        raise FieldError(_TEACHER, "teacher", message, "write distill.weights: FILE or released, or name a run")
    return teacher_spec.weights


def _load_timm_teacher(spec: Distillation, student: AnyModel, listener: Listener) -> nn.Module:
    """Load a timm model with its pretrained weights, or with the `weights` of the distillation."""
    import timm

    name = spec.teacher.removeprefix(TIMM_TEACHER)
    model = TimmModel(
        name=name, image_size=student.image_size, in_chans=student.in_chans, num_classes=student.num_classes
    )
    if spec.weights is not None:
        teacher = build_model(model)
        load_spec_weights(teacher, spec.weights)
        return teacher.eval()
    try:
        fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
        args: dict[str, Any] = {"img_size": tuple(student.image)} if fixed else {}
        downloaded: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=student.num_classes, in_chans=student.in_chans, **args
        )
    except Exception as error:  # no such name, no weights, no network
        try:
            build_model(model)
        except FieldError as unknown:  # the name, with similar ones
            raise FieldError(_TEACHER, "teacher", unknown.message, unknown.hint) from None
        message = f"timm's weights of {name} cannot be loaded: {type(error).__name__}: {error}".splitlines()[0]
        raise FieldError(_TEACHER, "teacher", message, "write distill.weights: FILE") from None
    pretrained_classes = timm.models.get_pretrained_cfg_value(name, "num_classes")
    if pretrained_classes != student.num_classes:
        message = f"{name} was trained on {pretrained_classes} classes, the student has {student.num_classes}"
        raise FieldError(_TEACHER, "teacher", message, "write distill.weights: FILE")
    licence = timm.models.get_pretrained_cfg_value(name, "license")
    listener(Notice(f"weights of {name} by timm, licence {licence or 'unknown'}; t2tbuild's own licence is Apache-2.0"))
    return downloaded.eval()


def _require_same_shapes(teacher: AnyModel, student: AnyModel) -> None:
    for field in ("image", "in_chans", "num_classes"):
        of_teacher, of_student = getattr(teacher, field), getattr(student, field)
        if of_teacher != of_student:
            message = f"the teacher {teacher.name} has {field} {of_teacher}, the student {of_student}"
            raise FieldError(
                _TEACHER, "teacher", message, "make them equal, and train the teacher or the student again"
            )
    pairs = zip(teacher.label_names or (), student.label_names or (), strict=False)
    for label, (of_teacher, of_student) in enumerate(pairs):
        if of_teacher != of_student:
            ours = f"of the student '{shorten(of_student)}'"
            message = f"class {label} of the teacher {teacher.name} is '{shorten(of_teacher)}', {ours}"
            raise FieldError(_TEACHER, "teacher", message, "train the teacher on the same classes")
