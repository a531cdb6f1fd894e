"""Weights into a model: names mapped, position embedding fitted, and every key that does not fit told."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from t2tbuild.errors import InputError
from t2tbuild.modules.position import resize_position
from t2tbuild.modules.vit import T2TViT
from t2tbuild.weights.read import read_weights

SHOWN = 8  # keys of each kind that an error lists

# mmpretrain's T2T_ViT (its configs/t2t_vit) -> the released code's names, applied in this order.
MMPRETRAIN = (
    (r"^backbone\.encoder\.", "blocks."),
    (r"^backbone\.", ""),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^head\.(layers\.head|fc)\.", "head."),
)


def load_weights(
    model: nn.Module, path: str | Path, *, reset_head: bool = False, grid: tuple[int, int] | None = None
) -> None:
    """Load trained weights into a model that `build_model` made, whatever wrote them.

    Reads what `read_weights` does, under the released code's names or mmpretrain's. A position embedding of another
    grid is interpolated, learned or sinusoid: trained blocks know a place by the vector that it had, and the table of
    a new grid gives that vector to another place. One of the model's own grid is taken as it stands in the file, so
    that the released weights for 384 pixels are theirs to the bit. `grid` says the rows and columns of the file's table
    where the file does not and they are not equal. With `reset_head` the head stays fresh.

    Raises InputError that lists the missing, unexpected and mis-shaped keys; the model is then unchanged.
    """
    stored = read_weights(path)
    state = _renamed(stored.tensors)
    expected = dict(model.state_dict())
    if reset_head:
        heads = tuple(f"{name}." for name in _heads(model))
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
        expected = {key: value for key, value in expected.items() if not key.startswith(heads)}
    if isinstance(model, T2TViT):
        state = _fit_position(model, state, stored.grid or grid, path)
    _require_fit(state, expected, path, reset_head=reset_head)
    model.load_state_dict(state, strict=False)


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the released code's names."""
    if not any(key.startswith("backbone.") for key in tensors):
        return dict(tensors)
    renamed = {}
    for key, value in tensors.items():
        name = key
        for pattern, replacement in MMPRETRAIN:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _heads(model: nn.Module) -> Sequence[str]:
    if isinstance(model, T2TViT):
        return ("head",)
    classifier = model.pretrained_cfg["classifier"]  # type: ignore[index]
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)


def _fit_position(
    model: T2TViT, state: dict[str, Tensor], grid: tuple[int, int] | None, path: str | Path
) -> dict[str, Tensor]:
    """The state with a position embedding of the model's grid; without one, the model's own sinusoids stay."""
    own, table = model.pos_embed, state.get("pos_embed")
    if table is None:
        return state if own.requires_grad else state | {"pos_embed": own}
    if table.ndim != own.ndim or table.shape[2] != own.shape[2]:
        return state  # of another model: told as mis-shaped
    tokens = table.shape[1] - 1
    grid = grid or _likely_grid(tokens, model.grid)
    if grid is None or math.prod(grid) != tokens:
        raise InputError(
            f"{path}: the rows and columns of its position embedding of {tokens} places are "
            f"{'not known' if grid is None else f'not {grid[0]} and {grid[1]}'}; say them with "
            "weights: {file: ..., grid: [rows, columns]}"
        )
    return state if grid == model.grid else state | {"pos_embed": resize_position(table, grid, model.grid)}


def _likely_grid(tokens: int, own: tuple[int, int]) -> tuple[int, int] | None:
    """The grid of a table of that many places: the model's own or a square, None where it could be both or neither."""
    side = math.isqrt(tokens)
    candidates = {own} if math.prod(own) == tokens else set()
    candidates |= {(side, side)} if side * side == tokens else set()
    return candidates.pop() if len(candidates) == 1 else None


def _require_fit(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path, *, reset_head: bool
) -> None:
    lists = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "mis-shaped": [
            f"{key} {list(state[key].shape)}, the model has {list(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if not any(lists.values()):
        return
    told = []
    for kind, keys in lists.items():
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            told.append(f"{kind} ({len(keys)}): {'; '.join(keys[:SHOWN])}{more}")
    only_head = all(key.startswith("head.") for keys in lists.values() for key in keys) and not reset_head
    hint = "\nfor another number of classes, leave the head fresh: reset_head: true" if only_head else ""
    raise InputError(f"{path}: these weights do not fit the model\n" + "\n".join(told) + hint)
