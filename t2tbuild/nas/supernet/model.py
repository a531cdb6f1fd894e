"""The supernet: the tensors of the largest members, and each member as a view of their leading parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.supernet.sliceable import family_of, hull, representatives
from t2tbuild.spec.model import ModelSpec

QKV = ("qkv", "kqv")
"""Linear layers whose rows are those of queries, keys and values: each third is sliced by itself."""
MAX_SUBNETS = 512
"""At most this many modules of members are kept."""


@dataclass(frozen=True)
class Slice:
    """A tensor of a member: its name and shape there, and the supernet's tensor of which it is the leading part."""

    name: str
    shape: torch.Size
    tensor: str

    @property
    def groups(self) -> int:
        """The number of equal groups of rows that are sliced one by one."""
        return 3 if any(layer in self.name.split(".") for layer in QKV) else 1

    def of(self, tensor: Tensor) -> Tensor:
        """Return this slice of the supernet's tensor."""
        if self.groups == 1:
            return _leading(tensor, self.shape)
        rows, *others = self.shape
        part = _leading(tensor.unflatten(0, (self.groups, -1)), (self.groups, rows // self.groups, *others))  # type: ignore[no-untyped-call]
        return part.flatten(0, 1)


@dataclass(frozen=True)
class Place:
    """Where a slice belongs: a module and the name of its attribute."""

    owner: nn.Module
    attribute: str
    slice: Slice


Subnet = tuple[T2TViT, list[Place]]
"""The module of a member, and the places of its tensors."""


def _leading(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    view = tensor.view_as(tensor)  # never the parameter itself, which a module would register
    for dim, size in enumerate(shape):
        if size < tensor.shape[dim]:
            view = view.narrow(dim, 0, size)
    return view


class Supernet(nn.Module):
    """Weights that all members of a space share.

    A member's tensors are the leading slices of the supernet's: the first channels of every width, the first rows of
    queries, keys and values each, the first blocks. Tensors that depend on a kind, such as those of a Performer, are
    shared by the members of that kind only. The position table of sinusoids is that of the widest member.

    Args:
        models: The members, or enough of them that every tensor of the others is as small (`representatives`). They
            are initialised by torch's global random generator.
    """

    def __init__(self, models: Sequence[ModelSpec]) -> None:
        super().__init__()
        largest = [(model, _slices(_on_meta(model), model)) for model in representatives(models)]
        sizes: dict[str, list[int]] = {}
        for one in (one for _, slices in largest for one in slices):
            known = sizes.setdefault(one.tensor, list(one.shape))
            sizes[one.tensor] = [max(pair) for pair in zip(known, one.shape, strict=True)]
        self.tensors = nn.ParameterDict()
        for model, slices in largest:
            if any(one.tensor not in self.tensors for one in slices):
                self._add(hull(model, [one for one, _ in largest]), sizes)
        self._subnets: dict[str, Subnet] = {}

    def _add(self, model: ModelSpec, sizes: dict[str, list[int]]) -> None:
        """Add the tensors of a model that are not there yet, cut to what the members need of them."""
        built = build_model(model)
        for one in _slices(built, model):
            if one.tensor in sizes and one.tensor not in self.tensors:
                parameter = built.get_parameter(one.name)
                part = Slice(one.name, torch.Size(sizes[one.tensor]), one.tensor).of(parameter.detach()).clone()
                self.tensors[one.tensor] = nn.Parameter(part, requires_grad=parameter.requires_grad)

    def holds(self, model: ModelSpec) -> bool:
        """Whether every tensor of a model is a slice of one of the supernet's."""
        return all(self._has(one) for one in _slices(_on_meta(model), model))

    def _has(self, one: Slice) -> bool:
        if one.tensor not in self.tensors:
            return False
        available = self.tensors[one.tensor].shape
        return len(available) == len(one.shape) and all(
            size <= most for size, most in zip(one.shape, available, strict=True)
        )

    def subnet(self, model: ModelSpec) -> T2TViT:
        """Return the module of a member, whose tensors are views of the supernet's, with their gradients.

        Call it again after each optimiser step. Raises InputError where the supernet does not hold the model.
        """
        key = key_of(model)
        module, places = self._subnets.pop(key) if key in self._subnets else self._without_tensors(model)
        for place in places:
            vars(place.owner)[place.attribute] = place.slice.of(self.tensors[place.slice.tensor])  # setattr is slow
        self._subnets[key] = module, places  # the most recent is the last
        if len(self._subnets) > MAX_SUBNETS:
            del self._subnets[next(iter(self._subnets))]
        return module

    def _without_tensors(self, model: ModelSpec) -> "Subnet":
        """Return the module of a member without its parameters, and the places for their slices."""
        module, places = _on_meta(model), []
        for one in _slices(module, model):
            self._require(one, model)
            path, _, attribute = one.name.rpartition(".")
            places.append(Place(module.get_submodule(path), attribute, one))
            delattr(places[-1].owner, attribute)
        return module, places

    def extract(self, model: ModelSpec) -> dict[str, Tensor]:
        """Return the state dict of a member as a stand-alone model, in memory of its own.

        Raises InputError where the supernet does not hold the model.
        """
        found = {}
        for one in _slices(_on_meta(model), model):
            self._require(one, model)
            found[one.name] = one.of(self.tensors[one.tensor].detach()).clone()
        return found

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser should not decay, as timm's models do."""
        return {f"tensors.{name}" for name in self.tensors if name.split(" ")[0] in _UNDECAYED}

    def _require(self, one: Slice, model: ModelSpec) -> None:
        if not self._has(one):
            message = f"{model.name} is not a member of the supernet: it has no {one.name} of {list(one.shape)}"
            raise InputError(message)

    def __deepcopy__(self, memo: dict[int, object]) -> "Supernet":
        """Return a copy with its own tensors; the modules of members are not copied."""
        copy = Supernet([])
        for name, one in self.tensors.items():
            copy.tensors[name] = nn.Parameter(one.detach().clone(), one.requires_grad)
        return copy


_UNDECAYED = frozenset({"cls_token", "dist_token", "pos_embed"})


def _on_meta(model: ModelSpec) -> T2TViT:
    """Build the module of a model without memory for its tensors."""
    with torch.device("meta"):
        return build_model(model)


def _slices(module: nn.Module, model: ModelSpec) -> tuple[Slice, ...]:
    """Return the slices of a supernet that are the tensors of a module of `model`."""
    return tuple(Slice(name, tensor.shape, tensor_name(name, model)) for name, tensor in module.named_parameters())


def tensor_name(name: str, model: ModelSpec) -> str:
    """Return the name of the supernet's tensor for a parameter of a model. A parameter's name has no dots."""
    return f"{name.replace('.', '/')} {family_of(name, model).replace('.', ',')}".strip()
