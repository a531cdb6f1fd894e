"""Break searches at random moments: python benchmarks/search_faults.py [outages | kills] [--rounds 5] [--searches 4].

outages: several searches with two workers each share a PostgreSQL server, which is stopped for 5, 30 or 60 seconds at a
random moment of each round.
kills: a random worker, and in every other search the supervisor, is killed with SIGKILL; a search whose supervisor died
is resumed.

At the end of each round every planned candidate must be measured once, no trial may be running or waiting, no process
may be left, and each command must end with exit code 0.
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
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from t2tbuild.nas.run import reopen_store
from t2tbuild.nas.store.url import VARIABLE
from tests.nas.conftest import tiny_search
from tests.nas.postgresql import Server, server

SECONDS = (5, 30, 60, 30, 5)
"""How long the server is stopped in each round."""
PLANNED = 6
FIELDS = [f"search.trials={PLANNED}", "search.heartbeat=3", "search.retries=50", "search.proxy.rungs=[5, 60]"]
FIELDS += ["search.target=data", "search.patience=null", "search.confirm=null", "search.zero_cost.names=[]"]
CHANCE = random.Random(0)


@dataclass
class Search:
    """A running search in a folder, and its database."""

    folder: Path
    url: str | None
    process: subprocess.Popen[bytes] | None = None
    ended: float = 0.0

    def start(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | {"OMP_NUM_THREADS": "1"}
        environment |= {VARIABLE: self.url} if self.url else {}
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "t2tbuild", "search", *arguments],
            cwd=self.folder,
            env=environment,
            stdout=log,
            stderr=log,
        )

    def check(self) -> Counter[str]:
        """Return what is wrong at the end, by kind."""
        assert self.process is not None
        found: Counter[str] = Counter()
        found["exit code"] += self.process.wait(600) != 0
        os.environ.pop(VARIABLE, None)
        _, _, opened = reopen_store(self.folder / "run", self.url)
        with opened as store:
            state, entries = store.snapshot(), store.entries()
            records = [*state.records, *state.reference_runs]
            found["not planned or not measured"] += sum(record.state.trained for record in state.records) != PLANNED
            found["measured twice"] += len(records) - len({(one.key, one.seed, one.full) for one in records})
            found["without a result"] += sum(not record.rungs for record in records)
            found["running or waiting"] += state.running + sum(one.is_waiting for one in entries)
        left = subprocess.run(["pgrep", "-f", str(self.folder)], capture_output=True, text=True, check=False).stdout
        found["processes left"] += len(left.split())
        return found


def begin(folder: Path, count: int, postgresql: Server | None) -> list[Search]:
    """Start `count` searches in folders of their own."""
    searches = []
    for index in range(count):
        own = folder / str(index)
        own.mkdir()
        tiny_search(own)
        url = None if postgresql is None else postgresql.database(f"{folder.name}_{index}".replace("-", "_"))
        searches.append(Search(own, url))
        searches[-1].start(str(own / "tiny.yaml"), *FIELDS, "--out", str(own / "run"), "--workers", "2", "--json")
    return searches


def workers_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def stop_server(postgresql: Server, searches: list[Search], seconds: float) -> None:
    """Stop the server for some seconds, at a random moment after the first candidates."""
    while not all((one.folder / "run" / "spec.yaml").exists() for one in searches):
        time.sleep(0.5)
    time.sleep(CHANCE.uniform(15, 60))
    postgresql.stop()
    time.sleep(seconds)
    postgresql.start()


def kill_some(searches: list[Search]) -> None:
    """Kill a worker of each search; kill the supervisor of every other one and resume it."""
    for index, one in enumerate(searches):
        assert one.process is not None
        while not (found := workers_of(one.process.pid)) and one.process.poll() is None:
            time.sleep(0.5)
        time.sleep(CHANCE.uniform(5, 20))
        for worker in CHANCE.sample(found, 1) if one.process.poll() is None else []:
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if index % 2 and one.process.poll() is None:
            time.sleep(CHANCE.uniform(1, 10))
            one.process.kill()
            one.process.wait()
            time.sleep(3)
            one.start("resume", str(one.folder / "run"), "--workers", "2", "--json")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["outages", "kills"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--searches", type=int, default=4)
    given = parser.parse_args()
    total: Counter[str] = Counter()
    with server() if given.kind == "outages" else nullcontext() as postgresql:
        for number in range(given.rounds):
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="faults_") as folder:
                searches = begin(Path(folder), given.searches, postgresql)
                if postgresql is not None:
                    stop_server(postgresql, searches, SECONDS[number % len(SECONDS)])
                else:
                    kill_some(searches)
                for one in searches:
                    wrong = one.check()
                    total.update(wrong)
                    if sum(wrong.values()):
                        print(json.dumps({"round": number, "search": str(one.folder), **wrong}), flush=True)
                        print((one.folder / "log").read_text()[-2000:], flush=True)
            print(f"round {number}: {time.monotonic() - started:.0f} s", flush=True)
    table = Table("wrong at the end", "of", title=f"{given.kind}, {given.rounds} rounds of {given.searches} searches")
    for name, count in total.items():
        table.add_row(name, str(count))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
