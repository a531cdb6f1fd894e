"""Distillation: a student learns the outputs of a trained teacher beside the labels."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import Node, Violation, lint, rule
from t2tbuild.spec.weights import WeightsField

TIMM_TEACHER = "timm:"
"""Prefix of a timm teacher."""

Weight = Annotated[int, Field(gt=0, le=1)] | Annotated[float, Field(gt=0, le=1)]
Above = Annotated[int, Field(gt=0, le=1000)] | Annotated[float, Field(gt=0, le=1000)]


class Distillation(Node):
    """Distillation from a teacher (Touvron et al., "DeiT", ICML 2021, equations 2 and 3; Table 4 of the paper)."""

    teacher: str = Field(min_length=1, examples=["timm:regnety_160.deit_in1k"])
    """A run directory, whose latest weights are used; the name of a spec, or its path relative to this file; or timm:
    and the name of a timm model."""
    weights: WeightsField | None = Field(default=None, examples=["regnety_160.pth"])
    """The teacher's weights; left out, those of the run or the spec, or timm's pretrained weights (downloaded)."""
    loss: Literal["hard", "soft"] = "hard"
    """Whether the student learns the teacher's most likely class (hard) or its distribution (soft)."""
    token: Literal["class", "distillation"] = "distillation"  # noqa: S105
    """Token that learns from the teacher: the class token, or a distillation token with a head of its own."""
    weight: Weight = Field(default=0.5, examples=[0.5])
    """Weight of the teacher in the loss; the labels have the rest."""
    temperature: Above = Field(default=3, examples=[3])
    """Divisor of the logits before the softmax of a soft loss."""

    @rule
    def _teacher_is_named(self) -> Iterator[Violation]:
        if not self.teacher.removeprefix(TIMM_TEACHER).strip():
            message = f"the teacher {self.teacher!r} names no model"
            yield Violation("teacher", message, "write timm: and a model's name, or a run directory")

    @lint
    def _temperature_of_a_soft_loss(self) -> Iterator[Violation]:
        if self.loss == "hard" and self.temperature != type(self).model_fields["temperature"].default:
            yield Violation("temperature", "a hard loss has no temperature", "write loss: soft, or remove temperature")
