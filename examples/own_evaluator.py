"""An evaluator of your own: it trains each candidate with a plain PyTorch loop on scikit-learn's digits.

own_evaluator.yaml names `evaluate` in search.evaluator. The search calls it with each rung that a candidate reaches.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from t2tbuild import build_model
from t2tbuild.nas.evaluator import Candidate

BATCH_SIZE = 64
VALIDATION = 360
"""Images at the end of the data that are not trained on."""


def evaluate(candidate: Candidate, steps: int) -> dict[str, float]:
    """Train a candidate to `steps` training steps in all, and return its validation accuracy and loss."""
    images, labels = digits()
    torch.manual_seed(candidate.seed)
    model = build_model(candidate.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    checkpoint = candidate.folder / "checkpoint.pt"
    for step in range(load(checkpoint, model, optimizer), steps):
        candidate.check()  # raises when the search is interrupted or its time is over
        torch.manual_seed(candidate.seed + step)  # the same batch and dropout, also after an interruption
        batch = torch.randint(len(labels) - VALIDATION, (BATCH_SIZE,))
        loss = F.cross_entropy(model.train()(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save(checkpoint, model, optimizer, steps)
    with torch.inference_mode():
        logits = model.eval()(images[-VALIDATION:])
    truth = labels[-VALIDATION:]
    accuracy = (logits.argmax(1) == truth).float().mean().item()
    return {"accuracy": accuracy, "loss": F.cross_entropy(logits, truth).item()}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return the images [N, 1, 8, 8] and labels [N] of scikit-learn's digits, shuffled once."""
    data, target = load_digits(return_X_y=True)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return images[order], torch.tensor(target)[order]


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint of an earlier rung. Returns its steps, 0 where there is none."""
    if not checkpoint.exists():
        return 0
    saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    steps: int = saved["steps"]
    return steps


def save(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Write a checkpoint. It is written beside and renamed, so that a kill leaves the earlier one."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    beside = checkpoint.with_suffix(".new")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps}, beside)
    beside.replace(checkpoint)
