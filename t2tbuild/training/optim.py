"""Optimiser and schedule, both timm's, and the parts of a model that have rates of their own."""

from collections.abc import Iterator
from typing import Any, assert_never

from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from t2tbuild.errors import FieldError
from t2tbuild.spec.optimizer import AdamW, LrScale, ModelPart, OptimizerField, Sgd
from t2tbuild.spec.train import TrainSpec
from t2tbuild.weights.load import classifier_keys

TOKENIZERS = ("tokens_to_token.", "patch_embed.")
"""How the keys of a tokenizer begin, ours and that of timm's vision transformers."""


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    kind: OptimizerField = AdamW(),  # noqa: B008  # frozen
    lr_scale: LrScale | None = None,
    layer_decay: float | None = None,
) -> Optimizer:
    """The optimiser of all parameters that are not frozen.

    Biases, norms and what the model's `no_weight_decay` names are not decayed. Rates of parts or of layers are in each
    group's `lr_scale`, by which timm's schedules multiply.
    """
    match kind:
        case AdamW(betas=betas, eps=eps):
            own: dict[str, Any] = {"betas": betas, "eps": eps}
        case Sgd(momentum=momentum, nesterov=nesterov):
            own = {"momentum": momentum, "nesterov": nesterov}
        case _:
            assert_never(kind)
    if lr_scale is not None:
        own["param_group_fn"] = lambda built: list(_groups(built, lr_scale, weight_decay))
    optimizer: Optimizer = create_optimizer_v2(
        model,
        # timm's name for descent without its default of nesterov
        opt="momentum" if isinstance(kind, Sgd) else "adamw",
        lr=lr,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        **own,
    )
    return optimizer


def part_of(name: str, heads: tuple[str, ...]) -> ModelPart:
    """The part that a parameter belongs to, by its name and by how the names of the classifiers begin."""
    if name.startswith(heads):
        return "head"
    return "tokenizer" if name.startswith(TOKENIZERS) else "backbone"


def freeze(model: nn.Module, parts: tuple[ModelPart, ...]) -> None:
    """Leave the given parts of a model untrained. Raises FieldError when it has no such part, as a CNN no tokenizer."""
    heads = classifier_keys(model)
    named = {part: [one for name, one in model.named_parameters() if part_of(name, heads) == part] for part in parts}
    for index, (part, parameters) in enumerate(named.items()):
        if not parameters:
            message = f"the model has no {part} with parameters"
            raise FieldError(("train", "freeze", index), "no-such-part", message, "leave it out")
        for parameter in parameters:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise FieldError(
            ("train", "freeze"), "nothing-trained", "no part of the model is left to train", "leave one out"
        )


def still_norms(model: nn.Module) -> None:
    """Let the norms whose parameters are all frozen keep the running means that they have."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(one.requires_grad for one in own):
            module.eval()


def _groups(model: nn.Module, lr_scale: LrScale, weight_decay: float) -> Iterator[dict[str, Any]]:
    """A group for each part and for what is decayed in it."""
    heads = classifier_keys(model)
    undecayed: set[str] = getattr(model, "no_weight_decay", set)()
    groups: dict[tuple[ModelPart, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and name not in undecayed
            groups.setdefault((part_of(name, heads), decayed), []).append(parameter)
    for (part, decayed), parameters in groups.items():
        scale = float(getattr(lr_scale, part))
        yield {"params": parameters, "lr_scale": scale, "weight_decay": weight_decay if decayed else 0.0}


def make_schedule(optimizer: Optimizer, spec: TrainSpec, steps_in_epoch: int) -> CosineLRScheduler:
    """Linear warm-up, then a cosine down to min_lr, which the cool-down keeps; set anew at every step.

    The cosine's time runs from the first step, so that the warm-up covers its beginning, as in the released code.
    """
    return CosineLRScheduler(
        optimizer,
        t_initial=spec.epochs * steps_in_epoch,
        lr_min=spec.min_lr,
        warmup_t=round(spec.warmup * steps_in_epoch),
        warmup_lr_init=spec.min_lr if spec.warmup_lr is None else spec.warmup_lr,
        warmup_prefix=False,
        t_in_epochs=False,
    )
