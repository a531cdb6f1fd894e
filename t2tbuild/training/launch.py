"""Start the processes of a training on several devices of this machine, as torchrun does."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from t2tbuild.errors import InputError
from t2tbuild.spec.extension import consent
from t2tbuild.spec.units import plural
from t2tbuild.training.device_setting import DEVICE_VARIABLE, device_setting


def require_gpus(count: int, device: str | None) -> None:
    """Raise InputError if this machine has fewer GPUs than `count`; with the device cpu there is no limit."""
    named = device_setting(device)
    if named == "cpu":
        return
    if named not in (None, "cuda"):
        by = "--device" if device else DEVICE_VARIABLE
        raise InputError(f"--gpus {count}: takes the first {count} GPUs, and {by} names {named}; leave one out")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > found:
        has = f"{plural(found, 'GPU')}" if found else "no GPU that torch can use"
        instead = f"write --gpus {found}" if found else "leave --gpus out, or add --device cpu for processes on the CPU"
        raise InputError(f"--gpus {count}: this machine has {has}; {instead}")


def launch_ranks(processes: int, arguments: Sequence[str], module: str = "t2tbuild") -> int:
    """Run `python -m MODULE ARGUMENTS` in several processes that train together, and return the exit code.

    It is that of the process that failed first. Ctrl-C and SIGTERM are passed on, so that the training is saved.
    """
    logging.disable(logging.ERROR)  # of torchrun, in this process: the others print their own errors
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.update(consent.worker_environment())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return max(1, failure.exitcode)
    except SignalException as stopped:
        return 143 if stopped.sigval == signal.SIGTERM else 130
    return 0
