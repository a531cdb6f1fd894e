"""Setup of all tests: threads per process, bytecode caching, and small specs."""

import os
import signal

import pytest
import torch

from t2tbuild.spec import ModelSpec

in_parallel = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
if in_parallel:  # one core per test and its child processes
    os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1 if in_parallel else 2)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # otherwise every child process compiles all libraries again
# GNU readline, which pytest imports, puts the size of the terminal into the environment of child processes.
for name in ("COLUMNS", "LINES"):
    os.unsetenv(name)
# A background job ignores SIGINT, and its children would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


collect_ignore_glob = ["conftest.py", "*/conftest.py"]  # they have no doctests, and all have one module name

SLOW_DOCTESTS = ("t2tbuild.nas.run.search",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples of docstrings that take seconds."""
    for item in items:
        if item.name in SLOW_DOCTESTS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def small() -> ModelSpec:
    """A model that builds and runs in milliseconds, with a token attention of each kind."""
    return ModelSpec.model_validate(
        {
            "name": "small",
            "image_size": 32,
            "num_classes": 10,
            "tokenizer": {
                "stages": [
                    {"patch_size": 7, "overlap": 3, "token_dim": 16, "attention": "performer"},
                    {"patch_size": 3, "overlap": 1, "token_dim": 16, "attention": "transformer"},
                    {"patch_size": 3, "overlap": 1},
                ]
            },
            "backbone": {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2},
        }
    )
