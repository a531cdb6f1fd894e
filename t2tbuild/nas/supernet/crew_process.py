"""The process of one worker of a supernet: python -m t2tbuild.nas.supernet.crew_process RUN PARENT.

It answers each task on a line of stdin with a line on stdout, until stdin ends. `crew.py` starts it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from t2tbuild.nas.exit_code import exit_code_of
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator, make_evaluator
from t2tbuild.nas.supernet.evaluation import MemberEvaluator, Task, Training
from t2tbuild.nas.supernet.loaded import load_supernet
from t2tbuild.nas.supernet.results import FOLDER
from t2tbuild.nas.worker_process import ParentOrSignal
from t2tbuild.spec.load import load_search_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.training.data.image_cache import CacheCallbacks
from t2tbuild.training.device import pick_device
from t2tbuild.training.signals import Interrupt


def task_from_line(line: bytes) -> Task:
    """Return a task of `task_to_line`."""
    data = json.loads(line)
    training = None if data["training"] is None else Training(**data["training"])
    return Task(ModelSpec.model_validate(data["model"]), training)


def make_member_evaluator(planned: Plan, run: Path, check: Callable[[], None]) -> MemberEvaluator:
    """Return the evaluator of the members of the supernet in a run directory."""
    device = pick_device()
    evaluator = make_evaluator(planned, device, run=run, callbacks=CacheCallbacks(check=check))
    assert isinstance(evaluator, ProxyEvaluator)
    supernet = load_supernet(planned, run, device)
    return MemberEvaluator(evaluator, supernet, run / FOLDER / "trials")


def serve(evaluator: MemberEvaluator, lines: Iterable[bytes], answers: IO[bytes], check: Callable[[], None]) -> None:
    """Answer each task."""
    for line in lines:
        answers.write(json.dumps(vars(evaluator.perform(task_from_line(line), check))).encode() + b"\n")
        answers.flush()


def main() -> int:
    """Answer tasks. Returns 0 at the end of stdin, 2 for wrong input, 1 for a failure, 143 if interrupted."""
    run, parent = Path(sys.argv[1]), int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def work(signals: Interrupt) -> None:
        interrupt = ParentOrSignal(signals, parent)

        def check() -> None:
            if interrupt:
                raise interrupt.exception()

        planned = plan(load_search_spec(run / "spec.yaml"))
        serve(make_member_evaluator(planned, run, check), sys.stdin.buffer, answers, check)

    return exit_code_of(work)


if __name__ == "__main__":
    sys.exit(main())
