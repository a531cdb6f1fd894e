"""Train a supernet on several GPUs of this machine, one process for each.

`train_on_ranks` starts them as python -m t2tbuild.nas.supernet.ranks RUN UNTIL. Each rank trains the same members on
its share of a batch; the gradients are averaged.
"""

import math
import sys
import time
from pathlib import Path

import torch

from t2tbuild.errors import TrainingError
from t2tbuild.nas.exit_code import exit_code_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy_evaluator import load_proxy_data
from t2tbuild.nas.rung_loop import TimeIsUp
from t2tbuild.nas.supernet.pool import pool
from t2tbuild.nas.supernet.results import FOLDER
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.spec.load import load_search_spec
from t2tbuild.training.device import pick_device
from t2tbuild.training.distributed import init_distributed
from t2tbuild.training.launch import launch_ranks
from t2tbuild.training.signals import Interrupt

INTERRUPTED = (130, 143)


def ranks_of(workers: int, device: torch.device) -> int:
    """Return the number of processes that train a supernet together: one for each GPU that has a worker."""
    return min(workers, torch.cuda.device_count()) if device.type == "cuda" and device.index is None else 1


def train_on_ranks(run: Path, ranks: int, seconds: float = math.inf) -> None:
    """Train the supernet of a run directory from its newest checkpoint, in several processes.

    They end at the last step, or after so many seconds. Raises TrainingError where a process fails, and
    KeyboardInterrupt after Ctrl-C or SIGTERM, when it is saved.
    """
    code = launch_ranks(ranks, [str(run), str(time.monotonic() + seconds)], module=__name__)
    if code in INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise TrainingError(f"the training of the supernet on {ranks} devices failed; its errors are above")


def train_as_rank(run: Path, until: float, signals: Interrupt) -> None:
    """Train as one of the ranks, to the last step or `until`, a time.monotonic(). All ranks stop at the same step."""
    with init_distributed(pick_device()) as distributed:

        def check() -> None:
            interrupted, late = distributed.all_reduce_sum([float(bool(signals)), float(time.monotonic() > until)])
            if interrupted:
                raise KeyboardInterrupt
            if late:
                raise TimeIsUp

        planned = plan(load_search_spec(run / "spec.yaml"))
        data = load_proxy_data(planned, distributed.device, run=run)
        trainer = SupernetTrainer(pool(planned), data, planned.search, distributed)
        try:
            trainer.train(check, run / FOLDER)
        except TimeIsUp:
            pass
        except KeyboardInterrupt:
            distributed.barrier()  # rank 0 has written its checkpoint
            raise
        distributed.barrier()


def main() -> int:
    """Train as one of the ranks. Returns 0, 2 for wrong input, 1 for a failure, 143 if interrupted."""
    run, until = Path(sys.argv[1]), float(sys.argv[2])
    return exit_code_of(lambda signals: train_as_rank(run, until, signals))


if __name__ == "__main__":
    sys.exit(main())
