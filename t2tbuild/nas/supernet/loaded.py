"""The supernet of a run directory, as its last checkpoint has it."""

from pathlib import Path

import torch

from t2tbuild.errors import InputError
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy import make_proxy_model
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.pool import pool
from t2tbuild.nas.supernet.results import FOLDER
from t2tbuild.nas.supernet.sliceable import representatives
from t2tbuild.nas.supernet.trainer import CHECKPOINTS
from t2tbuild.training.checkpoint import find_latest_checkpoint, load_checkpoint

CPU = torch.device("cpu")


def load_supernet(planned: Plan, run: Path, device: torch.device = CPU) -> Supernet:
    """Return the supernet of a run with averaged weights. Raises InputError where its training has no checkpoint."""
    newest, _ = find_latest_checkpoint(run / FOLDER / CHECKPOINTS)
    if newest is None:
        raise InputError(f"{run / FOLDER}: holds no checkpoint of a supernet; t2tbuild search trains one")
    checkpoint, proxy = load_checkpoint(newest), planned.search.proxy
    largest = representatives([one.model for one in pool(planned)])
    supernet = Supernet([make_proxy_model(one, proxy, device.type) for one in largest])
    supernet.load_state_dict(checkpoint.ema or checkpoint.model)
    return supernet.to(device)
