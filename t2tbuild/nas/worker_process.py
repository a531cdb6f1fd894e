"""The process of one worker: python -m t2tbuild.nas.worker_process RUN WORKERS DEADLINE PARENT.

`supervise` starts it.
"""

import os
import sys
from pathlib import Path

from t2tbuild.nas.exit_code import exit_code_of, write_log
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy_evaluator import make_evaluator
from t2tbuild.nas.record import Record, State
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store.database import storage_errors
from t2tbuild.nas.store.open import open_store
from t2tbuild.nas.store.url import storage_url
from t2tbuild.nas.supernet.proposals import read_proposals
from t2tbuild.nas.supervisor import start_of_training
from t2tbuild.nas.worker import Worker
from t2tbuild.spec.load import load_search_spec
from t2tbuild.spec.root import SearchSpec
from t2tbuild.training.data.image_cache import CacheCallbacks
from t2tbuild.training.device import pick_device
from t2tbuild.training.signals import Interrupt


def run_worker(spec: SearchSpec, run: Path, interrupt: Interrupt, *, deadline: float, workers: int) -> None:
    """Run one of several workers in this process. The environment names the storage.

    Raises StorageError where the storage stays unreachable, or it or the disk refuses what is written.
    """
    planned = plan(spec)

    def check() -> None:
        if interrupt:
            raise interrupt.exception()

    sampler = CandidateSampler(planned.search, planned)
    with storage_errors(run), open_store(storage_url(None, run), spec, planned, sampler, patient=True) as store:
        sampler.proposals = read_proposals(store, planned)
        Worker(
            store,
            sampler,
            make_evaluator(planned, pick_device(), run=run, callbacks=CacheCallbacks(check=check), store=store),
            planned,
            run,
            listener=_log,
            interrupt=interrupt,
            deadline=deadline,
            workers=workers,
        ).run()


def _log(record: Record) -> None:
    """Write a line to the log for a training that starts, or reaches a rung."""
    if record.state is State.RUNNING:
        seed = f", seed {record.seed}" if record.seed else ""
        write_log(f"{start_of_training(os.getpid())}{record.number}{seed}, after {record.steps} steps")


class ParentOrSignal(Interrupt):
    """An interrupt that is also set when the parent process has ended."""

    def __init__(self, signals: Interrupt, parent: int) -> None:
        super().__init__()
        self.signals, self.parent = signals, parent

    def __bool__(self) -> bool:
        self.signal_number = self.signals.signal_number
        return bool(self.signals) or os.getppid() != self.parent


def main() -> int:
    """Run a worker until the search is done, or to DEADLINE, a time.monotonic(), which is the same in all processes.

    Returns the exit code of `exit_code_of`.
    """
    run, workers, deadline, parent = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

    def work(signals: Interrupt) -> None:
        interrupt = ParentOrSignal(signals, parent)
        run_worker(load_search_spec(run / "spec.yaml"), run, interrupt, deadline=deadline, workers=workers)

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())
