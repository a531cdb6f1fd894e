"""Weights, images, logits and costs of the authors' released code."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
COSTS = json.loads((DATA / "official_costs.json").read_text())
SHAPES = json.loads((DATA / "official_state_dict_shapes.json").read_text())
RELEASED = [
    *("t2t_vit_7", "t2t_vit_10", "t2t_vit_12", "t2t_vit_14", "t2t_vit_19", "t2t_vit_24"),
    *("t2t_vit_t_14", "t2t_vit_t_19", "t2t_vit_t_24"),
    *("t2t_vit_14_resnext", "t2t_vit_14_wide", "t2t_vit_14_se", "t2t_vit_16_ghost", "t2t_vit_dense"),
]


def logits(name: str) -> np.ndarray:
    """Return the logits of the released code for `images()` with `weights()`."""
    return np.load(DATA / "official_logits.npz")[name]


def images() -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal((2, 3, 224, 224)).astype(np.float32))


def weights(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Return a random tensor for each key but pos_embed, from a generator seeded by the CRC-32 of the key."""
    found = {}
    for key, shape in shapes.items():
        if key == "pos_embed":
            continue
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
        if len(shape) >= 2 and key != "cls_token":
            value = noise / np.sqrt(np.prod(shape[1:]))
        elif "norm" in key and key.endswith("weight"):
            value = 1 + 0.1 * noise
        else:
            value = 0.1 * noise
        found[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return found
