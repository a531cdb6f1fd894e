"""Load weights into a model: rename keys, fit the position embedding, and report every key that does not match."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from t2tbuild.errors import InputError
from t2tbuild.modules.position import fit_position
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.weights import Weights
from t2tbuild.weights.read import read_weights

Heads = tuple[str, ...]
MAX_LISTED_KEYS = 8  # of each kind, in an error

# From the names of mmpretrain's T2T_ViT (configs/t2t_vit) to the released code's, applied in this order.
MMPRETRAIN = (
    (r"^backbone\.encoder\.", "blocks."),
    (r"^backbone\.", ""),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^head\.(layers\.head|fc)\.", "head."),
)
AUXILIARY = "aux_head."  # of token labelling: half of its maximum over the tokens is added to the logits there


def load_weights(
    model: nn.Module, path: str | Path, *, reset_head: bool = False, grid: tuple[int, int] | None = None
) -> None:
    """Load trained weights into a model from `build_model`.

    A position embedding of another grid is interpolated, also a sinusoid one: trained blocks recognise a position by
    its vector, and a new table would give that vector to another position. A table of the model's own grid is loaded
    unchanged, so the released weights for 384 pixels give the authors' values to the bit.

    Args:
        model: The model to load into.
        path: A file, folder or download that `read_weights` reads, with the released code's names or mmpretrain's.
        reset_head: Keep the head's random initialisation instead of loading it.
        grid: Rows and columns of the file's position embedding; needed if the file does not contain them and the grid
            is not square.

    Raises InputError that lists the missing, unexpected and mismatched keys; the model is then unchanged.
    """
    stored = read_weights(path)
    if stored.grid and grid and stored.grid != grid:
        raise InputError(f"{path}: its position embedding has the grid {stored.grid}, not {grid}; leave out grid")
    state, expected, heads = rename_state(stored.tensors), dict(model.state_dict()), classifier_keys(model)
    if reset_head:
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
        expected = {key: value for key, value in expected.items() if not key.startswith(heads)}
    if isinstance(model, T2TViT):
        state = _fit_position(model, state, stored.grid or grid, path)
    _require_fit(state, expected, path, heads)
    model.load_state_dict(state, strict=False)


def load_spec_weights(model: nn.Module, weights: Weights) -> None:
    """Load the weights of a spec's `weights` section. Raises the errors of `load_weights`."""
    load_weights(model, weights.file, reset_head=bool(weights.reset_head), grid=weights.grid)


def describe_mismatched_heads(model: nn.Module, path: str | Path) -> str:
    """Describe the model's classifiers that have another shape in a file of weights; empty if there are none."""
    stored, own = rename_state(read_weights(path).tensors), model.state_dict()
    keys = [key for key in own if key.startswith(classifier_keys(model)) and key in stored]
    return "; ".join(_shapes(key, stored, own) for key in keys if stored[key].shape != own[key].shape)


def rename_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of mmpretrain to the released code's names; leave out the auxiliary head of token labelling."""
    if not any(key.startswith("backbone.") for key in tensors):
        return {key: value for key, value in tensors.items() if not key.startswith(AUXILIARY)}
    renamed = {}
    for key, value in tensors.items():
        name = key
        for pattern, replacement in MMPRETRAIN:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def classifier_keys(model: nn.Module) -> Heads:
    """Return the prefixes of the classifiers' keys."""
    if isinstance(model, T2TViT):
        return ("head.",) if model.head_dist is None else ("head.", "head_dist.")
    classifier = model.pretrained_cfg["classifier"]  # type: ignore[index]
    return tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))


def _fit_position(
    model: T2TViT, state: dict[str, Tensor], grid: tuple[int, int] | None, path: str | Path
) -> dict[str, Tensor]:
    """Fit the position embedding to the model's grid; if the file has none, keep the model's own sinusoids."""
    own, table = model.pos_embed, state.get("pos_embed")
    if table is None:
        return state if own.requires_grad else state | {"pos_embed": own}
    prefix = 1 + ("dist_token" in state)
    if table.ndim != own.ndim or table.shape[2] != own.shape[2] or prefix != model.num_prefix_tokens:
        return state  # of another model: reported as a key of another shape
    try:
        return state | {"pos_embed": fit_position(table, model.grid, grid, prefix=prefix)}
    except ValueError as error:
        raise InputError(f"{path}: {error}; write weights: {{file: ..., grid: [rows, columns]}}") from None


def _require_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path, heads: Heads) -> None:
    """Raise InputError that lists every key that does not match; `heads` are the prefixes that reset_head excludes."""
    lists = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [key for key in expected if key in state and state[key].shape != expected[key].shape],
        "of another dtype": [
            key
            for key in expected
            if key in state and state[key].is_floating_point() != expected[key].is_floating_point()
        ],
    }
    wrong = [key for keys in lists.values() for key in keys]
    if not wrong:
        return
    message = []
    for kind, keys in lists.items():
        shown = [_shapes(key, state, expected) if kind == "of another shape" else key for key in keys[:MAX_LISTED_KEYS]]
        more = f" and {len(keys) - MAX_LISTED_KEYS} more" if len(keys) > MAX_LISTED_KEYS else ""
        message += [f"{kind} ({len(keys)}): {'; '.join(shown)}{more}"] if keys else []
    if all(key.startswith(heads) for key in wrong):
        message.append("for another number of classes, leave out the head: reset_head: true")
    raise InputError(f"{path}: these weights do not match the model\n" + "\n".join(message))


def _shapes(key: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    return f"{key} {list(state[key].shape)}, the model has {list(expected[key].shape)}"
