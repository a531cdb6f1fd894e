"""A worker's process: python -m t2tbuild.nas.worker_process RUN WORKERS DEADLINE PARENT, as `supervise` starts it."""

import os
import sys
import time
from pathlib import Path

from t2tbuild.errors import T2TBuildError
from t2tbuild.nas.run import work
from t2tbuild.spec.load import load_search_spec
from t2tbuild.training.signals import Interrupt, listening


class _Orphan(Interrupt):
    """An interrupt that is there too once the process that started this one is gone."""

    def __init__(self, heard: Interrupt, parent: int) -> None:
        super().__init__()
        self.heard, self.parent = heard, parent

    def __bool__(self) -> bool:
        self.number = self.heard.number
        return bool(self.heard) or os.getppid() != self.parent


def main() -> int:
    """Work on the search of a run directory until nothing is left: 0 then, 1 or 2 if it failed, 143 if interrupted."""
    run, workers, deadline, parent = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    with listening() as heard:
        try:
            until = time.monotonic() + deadline - time.time()
            work(load_search_spec(run / "spec.yaml"), run, _Orphan(heard, parent), deadline=until, workers=workers)
        except T2TBuildError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 143
    return 0


if __name__ == "__main__":
    sys.exit(main())
