"""The supernet of a run directory, as its last checkpoint has it."""

from pathlib import Path

import torch

from t2tbuild.errors import InputError
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.pool import pool
from t2tbuild.nas.supernet.results import FOLDER
from t2tbuild.nas.supernet.trainer import CHECKPOINTS, build_supernet
from t2tbuild.training.checkpoint import find_latest_checkpoint, load_checkpoint

CPU = torch.device("cpu")


def load_supernet(planned: Plan, run: Path, device: torch.device = CPU) -> Supernet:
    """Return the supernet of a run with averaged weights. Raises InputError where its training has no checkpoint."""
    newest, _ = find_latest_checkpoint(run / FOLDER / CHECKPOINTS)
    if newest is None:
        raise InputError(f"{run / FOLDER}: holds no checkpoint of a supernet; t2tbuild search trains one")
    checkpoint = load_checkpoint(newest)
    supernet = build_supernet(pool(planned), planned.search.proxy, device)
    supernet.load_state_dict(checkpoint.ema or checkpoint.model)
    return supernet
