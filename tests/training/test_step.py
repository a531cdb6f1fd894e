"""One step: in several passes, clipped, in lower precision, with mixup, distilled; by hand where possible."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild import ModelSpec, build_model, load_spec, train
from t2tbuild.errors import FieldError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import FakeData
from t2tbuild.spec.distill import Distillation
from t2tbuild.spec.label_names import LabelMap
from t2tbuild.spec.model import TimmModel
from t2tbuild.training.data import Data, load_data
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import evaluate
from t2tbuild.training.loop import require_finite, train_step
from t2tbuild.training.mistakes import MistakeCollector
from t2tbuild.training.objective import ClassificationTask, CrossEntropy, DistillationTask
from t2tbuild.training.reports import Notice
from t2tbuild.training.teacher import load_teacher

CPU = torch.device("cpu")
F32 = torch.float32


class Line(nn.Module):
    """Logits [B, 3] of images by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 1, 2, 2, generator=generator), torch.randint(3, (8,), generator=generator)


def stepped(batch: tuple[Tensor, Tensor], **options: object) -> tuple[Tensor, Tensor]:
    """Return the matrix after one step of gradient descent, and the loss."""
    torch.manual_seed(1)
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    objective = ClassificationTask(model, label_smoothing=0.1)
    loss = train_step(objective, model, optimizer, *batch, dtype=F32, **options)  # type: ignore[arg-type]
    return model.fc.weight.detach(), loss


def test_a_step_matches_the_formula(batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    weight = Line().fc.weight.detach().requires_grad_()
    loss = F.cross_entropy(batch[0].flatten(1) @ weight.T, batch[1], label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, weight)
    found, message = stepped(batch)
    torch.testing.assert_close(found, weight.detach() - 0.5 * gradient)
    torch.testing.assert_close(message, loss.detach())


@pytest.mark.parametrize("passes", [2, 4, 8])
def test_several_passes_give_the_same_step(batch: tuple[Tensor, Tensor], passes: int) -> None:
    for found, wanted in zip(stepped(batch, accumulate=passes), stepped(batch), strict=True):
        torch.testing.assert_close(found, wanted)


def test_uneven_passes_weigh_every_image_alike(batch: tuple[Tensor, Tensor]) -> None:
    for found, wanted in zip(stepped(batch, accumulate=3), stepped(batch), strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_gradient_is_clipped_as_a_whole(batch: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    before = Line().fc.weight.detach()
    assert (stepped(batch)[0] - before).norm() > 0.5 * 0.01
    assert (stepped(batch, clip_grad=0.01)[0] - before).norm() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_float16_scales_the_loss_and_unscales_the_gradient(batch: tuple[Tensor, Tensor]) -> None:
    scaler = torch.amp.GradScaler("cpu")
    torch.manual_seed(1)
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    objective = ClassificationTask(model, label_smoothing=0.1)
    train_step(objective, model, optimizer, *batch, dtype=torch.float16, scaler=scaler, clip_grad=100.0)
    torch.testing.assert_close(model.fc.weight.detach(), stepped(batch)[0], atol=2e-3, rtol=1e-2)


def test_mixup_targets_are_not_smoothed_twice() -> None:
    logits, mixed = torch.randn(4, 3), torch.tensor([[0.2, 0.3, 0.5]]).repeat(4, 1)
    wanted = -(mixed * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.1)(logits, mixed), wanted)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_raises_with_its_step(loss: float) -> None:
    with pytest.raises(Exception, match=f"the loss is {loss} at step 7"):
        require_finite(loss, 7)


class Identity(nn.Module):
    """Returns its images as logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class LogitData:
    """Data with fixed logits in place of images."""

    num_classes, mean, std, corrupt_images = 7, (0.0,), (1.0,), ()

    def __init__(self) -> None:
        self.logits = torch.randn(10, 7, generator=torch.Generator().manual_seed(3))
        self.labels = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3])  # no image of class 6

    def size(self, _split: str) -> int:
        return 10

    def mark_corrupt(self, _names: object) -> None: ...

    def train_batches(self, *_: object, **__: object) -> object:
        raise NotImplementedError

    def eval_batches(self, _split: str, *, rank: int, world_size: int, batch_size: int) -> object:
        own = range(rank, 10, world_size)
        for start in range(0, len(own), batch_size):
            some = list(own[start : start + batch_size])
            yield self.logits[some], self.labels[some]


def test_an_evaluation_matches_a_count_by_hand() -> None:
    data = LogitData()
    found = evaluate(Identity(), data, "test", DistributedContext(CPU), F32, 3)  # type: ignore[arg-type]
    right = data.logits.argmax(1) == data.labels
    assert found.accuracy == right.double().mean()
    assert found.loss == pytest.approx(F.cross_entropy(data.logits, data.labels).item())
    ranks = (data.logits > data.logits.gather(1, data.labels[:, None])).sum(1)
    assert found.top5 == (ranks < 5).double().mean()
    assert found.per_class[6] is None
    assert found.per_class[0] == right[data.labels == 0].double().mean()


def test_labels_are_mapped_and_mistakes_collected() -> None:
    data = LogitData()
    right = data.labels.clone()
    data.labels = (right + 1) % 7  # labels of the data; class of the model: one less
    labels_of = LabelMap(tuple((label - 1) % 7 for label in range(7)), 7)
    collector = MistakeCollector(keep=2)
    found = evaluate(
        Identity(),
        data,  # type: ignore[arg-type]
        "test",
        DistributedContext(CPU),
        F32,
        3,
        labels_of=labels_of,
        on_batch=collector.add,
    )
    predicted = data.logits.argmax(1)
    assert found.accuracy == (predicted == right).double().mean()
    assert collector.counts == Counter(zip(right.tolist(), predicted.tolist(), strict=True))
    confidence = data.logits.softmax(1).amax(1)
    wrong = [index for index in confidence.argsort(descending=True).tolist() if predicted[index] != right[index]]
    data.image_name = lambda split, index: f"{split} {index}"  # type: ignore[attr-defined]
    for one in collector._worst:
        one.image.unsqueeze_(0).unsqueeze_(0)  # logits are no image
    mistakes = collector.mistakes(data, "test", "abcdefg")  # type: ignore[arg-type]
    assert [one.image for one in mistakes] == [f"test {index}" for index in wrong[:2]]
    assert [one.label for one in mistakes] == ["abcdefg"[right[index]] for index in wrong[:2]]
    assert [one.predicted for one in mistakes] == ["abcdefg"[predicted[index]] for index in wrong[:2]]


# distillation


@pytest.fixture
def noise() -> Data:
    return load_data(FakeData(num_classes=10, samples=8), image=Grid(32, 32), in_chans=3, device=CPU)


@pytest.mark.parametrize("loss", ["hard", "soft"])
@pytest.mark.parametrize("token", ["class", "distillation"])
def test_distillation_matches_the_formula_of_deit(small: ModelSpec, noise: Data, loss: str, token: str) -> None:
    torch.manual_seed(0)
    two = token == "distillation"
    student = build_model(small.model_copy(update={"distillation_token": two})).train()
    if two:
        student.set_distilled_training(True)
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    teacher = build_model(small).eval()
    teacher.pretrained_cfg = {"mean": noise.mean, "std": noise.std}  # type: ignore[assignment]
    spec = Distillation(teacher="x", loss=loss, token=token, weight=0.3, temperature=2)  # type: ignore[arg-type]
    images, labels = next(iter(noise.eval_batches("train", rank=0, world_size=1, batch_size=8)))
    found = DistillationTask(student, teacher, spec, noise, label_smoothing=0.1)(images, labels)

    answers = student(images)
    own, learned = answers if two else (answers, answers)
    taught = teacher(images).detach()
    if loss == "hard":
        second = F.cross_entropy(learned, taught.argmax(1))
    else:
        p, q = (taught / 2).softmax(1), (learned / 2).log_softmax(1)
        second = 4 * (p * (p.log() - q)).sum(1).mean()
    torch.testing.assert_close(found, 0.7 * F.cross_entropy(own, labels, label_smoothing=0.1) + 0.3 * second)
    found.backward()
    assert all(one.grad is None for one in teacher.parameters())
    assert student.head.weight.grad is not None


def test_a_timm_teacher_gets_images_with_its_own_normalisation(small: ModelSpec, noise: Data) -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # noqa: RUF012

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return torch.zeros(len(images), 10)

    spec = Distillation(teacher="x", token="class")
    images, labels = next(iter(noise.eval_batches("train", rank=0, world_size=1, batch_size=8)))
    DistillationTask(build_model(small), Watching(), spec, noise, label_smoothing=0.0)(images, labels)
    torch.testing.assert_close(seen[0], (images - 0.5) / 0.25)  # the noise has mean 0 and deviation 1


TINY = ["model.backbone.depth=1", "train.data.image_size=16", "train.epochs=1", "train.batch_size=256"]


def test_distillation_from_a_run(tmp_path: Path) -> None:
    run = tmp_path / "teacher"
    train(load_spec("t2t_vit_7", TINY), run)
    result = train(load_spec("t2t_vit_7", [*TINY, f"train.distill={{teacher: {run}}}"]), tmp_path / "student")
    assert load_spec(tmp_path / "student" / "spec.yaml").model.distillation_token  # type: ignore[union-attr]
    assert result.epochs == 1
    other = [*TINY, "train.data.image_size=32", f"train.distill={{teacher: {run}}}"]
    with pytest.raises(FieldError, match="the teacher t2t_vit_7 has image 16 x 16, the student 32 x 32"):
        train(load_spec("t2t_vit_7", other), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_untrained_teacher_raises(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="has no weights, so its model is untrained"):
        train(load_spec("t2t_vit_7", [*TINY, "train.distill={teacher: t2t_vit_7}"]), tmp_path / "run")


def test_an_unknown_teacher_and_one_without_weights_raise(noise: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # otherwise it retries for a minute
    student = TimmModel(name="resnet18", num_classes=10, image_size=32)
    with pytest.raises(FieldError, match="has no model 'resnet19'"):
        load_teacher(Distillation(teacher="timm:resnet19"), student, noise)
    with pytest.raises(FieldError, match=r"weights of resnet18 cannot be loaded|was trained on 1000 classes"):
        load_teacher(Distillation(teacher="timm:resnet18"), student, noise)


def test_the_licence_of_weights_that_timm_downloads_is_printed(noise: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda *_, **__: nn.Identity())  # instead of a download
    notices: list[object] = []
    student = TimmModel(name="resnet18", num_classes=1000, image_size=32)
    load_teacher(Distillation(teacher="timm:resnet18"), student, noise, notices.append)
    assert notices == [Notice("weights of resnet18 by timm, licence apache-2.0; t2tbuild's own licence is Apache-2.0")]


def test_a_timm_teacher_with_weights_from_a_file(tmp_path: Path, noise: Data) -> None:
    torch.manual_seed(0)
    teacher = build_model(TimmModel(name="resnet18", num_classes=10, image_size=32))
    torch.save(teacher.state_dict(), tmp_path / "weights.pth")
    spec = Distillation.model_validate({"teacher": "timm:resnet18", "weights": str(tmp_path / "weights.pth")})
    found = load_teacher(spec, TimmModel(name="resnet18", num_classes=10, image_size=32), noise)
    assert torch.equal(found.state_dict()["fc.weight"], teacher.state_dict()["fc.weight"])
    assert not found.training
