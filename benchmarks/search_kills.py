"""Kill workers of a search repeatedly: python benchmarks/search_kills.py [--workers 8] [--trials 24] [--kills 8].

Runs a small search by `t2tbuild search --workers 8` and kills a random one of its processes with SIGKILL every few
seconds; once on SQLite, and once on PostgreSQL, whose server is killed and restarted in the middle. At the end every
planned candidate must be trained once, with all its rungs, and no trial may be running or waiting.

Measured on 2026-11-23, two cores, 8 workers, with another search running at the same time:

                             SQLite  PostgreSQL, restarted
killed                            8                      8
planned                          24                     24
trained                          24                     24
trained twice                     0                      0
without a result                  0                      0
running or waiting                0                      0
candidates given to another       3                      0

The engine of 2026-11-30, the machine's only work: the same figures, and no candidate was given to another.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from t2tbuild.nas.existing_run import reopen_store
from t2tbuild.nas.store.trials import DEATHS
from t2tbuild.nas.store.url import VARIABLE
from tests.nas.conftest import tiny_search
from tests.nas.postgresql import Server, installed, server


def workers_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def once(folder: Path, given: argparse.Namespace, postgresql: Server | None) -> dict[str, int]:
    tiny_search(folder)
    environment = dict(os.environ)
    if postgresql is not None:
        os.environ[VARIABLE] = environment[VARIABLE] = postgresql.database("kills")
    else:
        os.environ.pop(VARIABLE, None)
        environment.pop(VARIABLE, None)
    fields = [f"search.trials={given.trials}", "search.patience=null", "search.heartbeat=5", "search.retries=50"]
    fields += ["search.proxy.rungs=[5, 60]"]
    command = [sys.executable, "-m", "t2tbuild", "search", "tiny.yaml", *fields, "--out", "run"]
    process = subprocess.Popen(
        [*command, "--workers", str(given.workers), "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    chance, kills = random.Random(0), 0
    while process.poll() is None and kills < given.kills:
        time.sleep(chance.uniform(3, 9))
        found = workers_of(process.pid)
        if found:
            os.kill(chance.choice(found), signal.SIGKILL)
            kills += 1
        if postgresql is not None and kills == given.kills // 2:
            postgresql.stop()
            time.sleep(5)
            postgresql.start()
    out, _ = process.communicate()
    assert process.returncode == 0
    report = json.loads(out)
    spec, _, opened = reopen_store(folder / "run", None)
    with opened as store:
        entries = store.entries()
        trials = optuna.load_study(study_name=spec.search.name, storage=store.storage).get_trials()
    records = [entry.record for entry in entries]
    return {
        "killed": kills,
        "planned": given.trials,
        "trained": report["counts"]["trained"],
        "trained twice": len(records) - len({(record.key, record.seed) for record in records}),
        "without a result": sum(not record.rungs for record in records),
        "running or waiting": sum(entry.ended is None for entry in entries),
        "candidates given to another": sum(DEATHS in trial.user_attrs for trial in trials),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--kills", type=int, default=8)
    given = parser.parse_args()
    found: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sqlite").mkdir()
        (Path(folder) / "postgresql").mkdir()
        found["SQLite"] = once(Path(folder) / "sqlite", given, None)
        if installed():
            with server() as postgresql:
                found["PostgreSQL, restarted"] = once(Path(folder) / "postgresql", given, postgresql)
    table = Table()
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for row in next(iter(found.values())):
        table.add_row(row, *(str(one[row]) for one in found.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
