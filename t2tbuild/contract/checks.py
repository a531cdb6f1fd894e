"""Check that an extension keeps the contract of nodes, with the reason in plain words where it does not."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.contract.models import small_models
from t2tbuild.cost.counter import measure_cost
from t2tbuild.cost.model import EVERY_LEVEL, differences
from t2tbuild.cost.predict import predict_cost
from t2tbuild.errors import first_line
from t2tbuild.modules.block import Block
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.diagnostics.introspect import kinds_of
from t2tbuild.spec.extension.registry import BlockOption, Extension
from t2tbuild.spec.extension.user_errors import describe_user_error
from t2tbuild.spec.model import ModelSpec
from t2tbuild.symbolic.block import block_shapes
from t2tbuild.symbolic.forward import Forward
from t2tbuild.symbolic.model import layout

TOLERANCE = 1e-4
"""Largest difference of logits over the largest logit, where only the order of additions may differ."""


class Status(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """The outcome of one check, with the reason in plain words."""

    check: str
    status: Status
    message: str = ""


class Report(NamedTuple):
    """The checks of one extension."""

    kind: str
    what: str
    node: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> int:
        return sum(finding.status is Status.FAILED for finding in self.findings)


class CheckError(Exception):
    """A check failed; the text is the reason."""


class SkippedError(Exception):
    """A check does not apply; the text is the reason."""


@dataclass(frozen=True)
class Case:
    """A small model that uses an extension."""

    extension: Extension
    model: ModelSpec

    def build(self, seed: int = 0) -> T2TViT:
        torch.manual_seed(seed)
        return build_model(self.model)

    def build_changed(self) -> T2TViT:
        """Build the model with weights that let every module change the logits: all are added normal noise.

        Initial weights are small, and some modules start at zero.
        """
        built = self.build()
        with torch.no_grad():
            for parameter in built.parameters():
                if parameter.requires_grad:
                    std = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
                    parameter.add_(std * torch.randn_like(parameter))
        return built

    def images(self, batch: int) -> Tensor:
        """Return noise with another mean for each image and channel."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn((batch, self.model.in_chans, *self.model.image), generator=generator)
        return noise + torch.randn((batch, self.model.in_chans, 1, 1), generator=generator)


def check_extension(
    extension: Extension, path: Path, checks: Mapping[str, Callable[[Case], None]] | None = None
) -> Report:
    """Run the checks of an extension from a file, by default all. What follows a failure to build is skipped."""
    findings: list[Finding] = []
    cases: list[Case] = []

    def find_cases() -> None:
        cases.extend(Case(extension, model) for model in small_models(extension))

    findings.append(_run("node", find_cases, path))
    for name, check in (CHECKS if checks is None else checks).items():
        needed = ("node", "builds", "shapes", *NEEDED.get(name, ()))
        failed = next((one.check for one in findings if one.status is Status.FAILED and one.check in needed), None)
        if failed:
            findings.append(Finding(name, Status.SKIPPED, f"not run, because {failed} failed"))
            continue
        for case in cases:
            found = _run(name, lambda check=check, case=case: check(case), path)  # type: ignore[misc]
            if found.status is not Status.OK:
                break
        findings.append(found)
    return Report(kinds_of(extension.node)[0], extension.KIND, extension.node.__name__, tuple(findings))


def _run(name: str, check: Callable[[], None], path: Path) -> Finding:
    """Run a check; any error of the user's code is a failure with the line of the file."""
    with torch.random.fork_rng(devices=[]):
        try:
            check()
        except SkippedError as reason:
            return Finding(name, Status.SKIPPED, str(reason))
        except CheckError as failure:
            return Finding(name, Status.FAILED, str(failure))
        except Exception as error:  # anything that the user's code raises
            return Finding(name, Status.FAILED, describe_user_error(error, path))
    return Finding(name, Status.OK)


def builds(case: Case) -> None:
    """The model is built, with the same weights from the same seed."""
    first, second = case.build().state_dict(), case.build().state_dict()
    for name, value in first.items():
        if name not in second or not torch.equal(value, second[name]):
            raise CheckError(f"{name} differs between two models of one seed: use torch's random generator only")
    for option in case.model.backbone.options:
        modules = case.extension.build(option)
        replaced = {name for name in ("attention", "mlp") if getattr(modules, name)}
        if replaced != set(getattr(option, "replaces", ())):
            listed = "".join(f'"{name}", ' for name in sorted(replaced))
            raise CheckError(
                f"the node does not declare what it replaces: write replaces: ClassVar = ({listed.strip()})"
            )


def shapes(case: Case) -> None:
    """Each module returns the shape that the next one expects."""
    built = case.build().train()
    with _checked_shapes(case, built):
        logits = built(case.images(2))
    if logits.shape != (2, case.model.num_classes):
        raise CheckError(f"the logits have shape {list(logits.shape)}, expected [2, {case.model.num_classes}]")
    if not torch.isfinite(logits).all():
        raise CheckError("the logits of random images are not finite")


def symbolic_shapes(case: Case) -> None:
    """The symbolic forward returns the shapes of the module."""
    _require_forward(case)
    parts = layout(case.model)
    built, shape = case.build().eval(), (1, case.model.in_chans, *case.model.image)
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _x, out, name=name: seen.update({name: tuple(out.shape)}))
        for name, module in built.named_modules()
        if any(part.modules[-1:] == (name,) for part in parts)
    ]
    with torch.no_grad():
        built(torch.zeros(shape))
    for hook in hooks:
        hook.remove()
    for part in parts:
        actual = seen.get(part.modules[-1], ()) if part.modules else ()
        if len(actual) == 3 and actual[1:] != (part.tokens, part.channels):
            raise CheckError(
                f"{part.name}: the symbolic forward returns {part.tokens} tokens of {part.channels} channels, "
                f"the module {actual[1]} of {actual[2]}"
            )
    if isinstance(case.extension, BlockOption):
        _check_hooks(case)


def _check_hooks(case: Case) -> None:
    """Raise CheckError if a function of a block option's symbolic forward changes the shape of its input."""
    shape, (option,) = block_shapes(case.model.backbone)[0], case.model.backbone.options
    assert case.extension.forward is not None
    hooks = case.extension.forward(option)
    f = Forward()
    x = f.image(case.model.tokens, case.model.backbone.widths[0])
    calls: dict[str, tuple[Any, Any]]
    calls = {name: (getattr(hooks, name), shape) for name in ("attention", "mlp") if getattr(hooks, name)}
    for name in ("after_attention", "after_branch"):
        if getattr(hooks, name):
            calls[name] = (getattr(hooks, name)[1], option)
    for name, (function, argument) in calls.items():
        out = f.module(name, function, x, argument)
        if out.shape != x.shape:
            raise CheckError(f"{name} of the symbolic forward returns {out.shape}, expected {x.shape}")


def gradients(case: Case) -> None:
    """Every trained parameter gets a finite gradient that is not zero."""
    built = case.build_changed().train()
    nn.functional.cross_entropy(built(case.images(2)), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    for name, parameter in built.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            raise CheckError(f"{name} gets no gradient: nothing that the loss depends on uses it, or it was detached")
        if not torch.isfinite(parameter.grad).all():
            raise CheckError(f"the gradient of {name} is not finite")
        if not parameter.grad.any():
            raise CheckError(f"the gradient of {name} is zero everywhere")


@torch.no_grad()
def deterministic(case: Case) -> None:
    """Evaluation gives the same logits twice, and training does with the same seed."""
    built, images = case.build_changed().eval(), case.images(2)
    first, second = built(images), built(images)
    if not torch.equal(first, second):
        change = _difference(first, second)
        raise CheckError(f"two evaluations of the same images differ by {change:.1e}: draw no random numbers there")
    built.train()
    torch.manual_seed(2)
    first = built(images)
    torch.manual_seed(2)
    if not torch.equal(first, built(images)):
        raise CheckError("two training passes with the same seed differ: use torch's random generator")


@torch.no_grad()
def batch_independence(case: Case) -> None:
    """In evaluation, the logits of an image do not depend on the other images of its batch."""
    built, images = case.build_changed().eval(), case.images(3)
    alone = torch.cat([built(image[None]) for image in images])
    difference = _difference(built(images), alone)
    if not difference <= TOLERANCE:
        raise CheckError(
            f"the logits of an image in a batch of 3 differ from those of the image alone by {difference:.1e}: "
            "the module mixes images; no operation may run across the first dimension"
        )


def counts(case: Case) -> None:
    """The symbolic forward and fvcore agree on every layer."""
    counted = measure_cost(case.build(), depth=EVERY_LEVEL)
    _require_forward(case)
    found = differences(predict_cost(case.model, EVERY_LEVEL), counted)
    if found:
        raise CheckError(str(found[0]) + (f" (and {len(found) - 1} more rows)" if len(found) > 1 else ""))


def exports(case: Case) -> None:
    """torch.export gives a graph for any batch size with the same logits."""
    built, batch = case.build_changed().eval(), torch.export.Dim("batch", min=1)
    with torch.no_grad():
        try:
            exported = torch.export.export(built, (case.images(2),), dynamic_shapes=({0: batch},)).module()
        except Exception as error:  # the exporter raises errors of many types
            reason = first_line(error) or type(error).__name__
            hint = "a branch or a Python number that depends on values of tensors cannot be exported"
            raise CheckError(f"torch.export fails: {reason}; {hint}") from None
        difference = max(_difference(built(case.images(size)), exported(case.images(size))) for size in (1, 3))
    if not difference <= TOLERANCE:
        raise CheckError(f"the exported model gives other logits: relative difference {difference:.1e}")


def meta_device(case: Case) -> None:
    """The model is built and runs on the meta device, where it takes no memory."""
    with torch.device("meta"):
        built = case.build()
        for name, tensor in (*built.named_parameters(), *built.named_buffers()):
            if not tensor.is_meta:
                raise CheckError(f"{name} is on {tensor.device}, on the meta device too: create it without device=")
        logits = built(torch.empty(2, case.model.in_chans, *case.model.image))
    if logits.shape != (2, case.model.num_classes):
        raise CheckError(f"on the meta device the logits have shape {list(logits.shape)}")


CHECKS: dict[str, Callable[[Case], None]] = {
    "builds": builds,
    "shapes": shapes,
    "symbolic shapes": symbolic_shapes,
    "gradients": gradients,
    "deterministic": deterministic,
    "batch independence": batch_independence,
    "counts": counts,
    "export": exports,
    "meta device": meta_device,
}
"""The checks of a small model, by the names that the report shows."""


NEEDED = {
    "batch independence": ("deterministic",),
    "export": ("deterministic",),
    "counts": ("symbolic shapes", "deterministic"),
}
"""The checks without which another one has no meaning, besides those of building and of shapes."""


def _require_forward(case: Case) -> None:
    if case.extension.forward is None:
        raise SkippedError("no symbolic forward: fvcore alone counts it, and budgets are checked only after building")


def _difference(first: Tensor, second: Tensor) -> float:
    return ((first - second).abs().max() / first.abs().max().clamp(min=1e-12)).item()


@contextmanager
def _checked_shapes(case: Case, built: T2TViT) -> Iterator[None]:
    """Raise CheckError where a module returns another shape than the model expects."""
    expected = dict(_expected_shapes(case, built))
    handles = []
    for name, module in built.named_modules():
        if name in expected:
            handles.append(module.register_forward_hook(_shape_hook(name, expected[name])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape_hook(name: str, expected: tuple[int, int]) -> Callable[..., None]:
    def check(_module: nn.Module, _inputs: Any, out: object) -> None:
        if not isinstance(out, Tensor):
            raise CheckError(f"{name} returns {type(out).__name__}, expected a tensor")
        if tuple(out.shape[1:]) != expected:
            raise CheckError(f"{name} returns shape {list(out.shape)}, expected {[2, *expected]}")

    return check


def _expected_shapes(case: Case, built: T2TViT) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the names of modules with the tokens and channels that each must return."""
    model = case.model
    for index, grid in enumerate(model.grids[:-1]):
        yield f"tokens_to_token.attention{index + 1}", (grid.tokens, model.tokenizer.windows[index].token_dim or 0)
    yield "tokens_to_token", (model.grids[-1].tokens, model.backbone.embed_dim)
    for index, (block, width) in enumerate(zip(built.blocks, _block_widths(built), strict=True)):
        yield f"blocks.{index}", (model.tokens, width)
        if isinstance(block, Block):
            inside = ("attn", "mlp", *block.after_attn, *block.after_mlp)
            dim = block.norm1.normalized_shape[0]
            yield from ((f"blocks.{index}.{name}", (model.tokens, dim)) for name in inside)


def _block_widths(built: T2TViT) -> list[int]:
    return [int(str(info["num_chs"])) for info in built.feature_info]
