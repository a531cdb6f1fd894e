"""Optimiser and learning-rate scheduler, both timm's, and the parts of a model with their own learning rates."""

from collections.abc import Iterator
from typing import Any, assert_never

from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from t2tbuild.errors import FieldError
from t2tbuild.spec.optimizer import AdamW, LrScale, ModelPart, OptimizerField, Sgd
from t2tbuild.spec.train import TrainSpec
from t2tbuild.weights.load import classifier_keys

TOKENIZER_PREFIXES = ("tokens_to_token.", "patch_embed.")
"""Prefixes of a tokenizer's parameters, in our models and in timm's vision transformers."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    kind: OptimizerField = AdamW(),  # noqa: B008  # frozen
    lr_scale: LrScale | None = None,
    layer_decay: float | None = None,
) -> Optimizer:
    """Return the optimiser of all parameters that are not frozen.

    Biases, norms and the parameters that the model's `no_weight_decay` names have no weight decay. The factor of a part
    or layer is the `lr_scale` of its group, by which timm's schedulers multiply.
    """
    match kind:
        case AdamW(betas=betas, eps=eps):
            settings: dict[str, Any] = {"betas": betas, "eps": eps}
        case Sgd(momentum=momentum, nesterov=nesterov):
            settings = {"momentum": momentum, "nesterov": nesterov}
        case _:
            assert_never(kind)
    if lr_scale is not None:
        settings["param_group_fn"] = lambda built: list(_parameter_groups(built, lr_scale, weight_decay))
    optimizer: Optimizer = create_optimizer_v2(
        model,
        # timm's "sgd" has Nesterov momentum
        opt="momentum" if isinstance(kind, Sgd) else "adamw",
        lr=lr,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        **settings,
    )
    return optimizer


def part_of(name: str, heads: tuple[str, ...]) -> ModelPart:
    """Return the part of a parameter by its name; `heads` are the prefixes of the classifiers."""
    if name.startswith(heads):
        return "head"
    return "tokenizer" if name.startswith(TOKENIZER_PREFIXES) else "backbone"


def freeze(model: nn.Module, parts: tuple[ModelPart, ...]) -> None:
    """Freeze the given parts of a model. Raises FieldError when it has no such part, as a CNN has no tokenizer."""
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
            ("train", "freeze"), "nothing-trained", "no part of the model is left to train", "leave one of them out"
        )


def freeze_batch_norm_stats(model: nn.Module) -> None:
    """Keep the running means of the batch norms whose parameters are all frozen."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, BATCH_NORMS) and own and not any(one.requires_grad for one in own):
            module.eval()


def _parameter_groups(model: nn.Module, lr_scale: LrScale, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Yield two groups for each part: with and without weight decay."""
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


def make_scheduler(optimizer: Optimizer, spec: TrainSpec, steps_in_epoch: int) -> CosineLRScheduler:
    """Return a scheduler of linear warm-up, then a cosine down to min_lr, which the cool-down keeps; for each step.

    The cosine starts at the first step and the warm-up replaces its beginning, as in the released code.
    """
    return CosineLRScheduler(
        optimizer,
        t_initial=spec.epochs * steps_in_epoch,
        lr_min=spec.min_lr,
        cycle_decay=0.5,  # no effect on the only cycle; with 1, timm warns in a training of one step
        warmup_t=round(spec.warmup * steps_in_epoch),
        warmup_lr_init=spec.min_lr if spec.warmup_lr is None else spec.warmup_lr,
        warmup_prefix=False,
        t_in_epochs=False,
    )
