"""The supernet of a run directory, as its last checkpoint has it."""

from pathlib import Path

from t2tbuild.errors import InputError
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.pool import pool
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.training.data import Data
from t2tbuild.training.distributed import DistributedContext


def load_supernet(planned: Plan, data: Data, folder: Path, context: DistributedContext) -> Supernet:
    """Return the supernet with averaged weights. Raises InputError where its training has no checkpoint."""
    trainer = SupernetTrainer(pool(planned), data, planned.search, context)
    if not trainer.restore(folder):
        raise InputError(f"{folder}: holds no checkpoint of a supernet; t2tbuild search trains one")
    return trainer.averaged()
