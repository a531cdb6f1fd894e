"""Compare Optuna's gRPC storage proxy with the database itself: python benchmarks/grpc_proxy.py [--trials 500 2000].

A study with records as large as ours lies in a PostgreSQL server; 100 trials are running. What a worker of Optuna does
is timed with a connection of its own and through `optuna.storages.run_grpc_proxy_server`, in turns: reading all trials
as a new worker, reading them again, and saving a record at a rung. Printed are medians in milliseconds, and the
connections that --clients workers hold in the server. docs/scaling.md says what it means.
"""

import argparse
import json
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import GrpcStorageProxy, RDBStorage, get_storage, run_grpc_proxy_server
from optuna.storages._base import BaseStorage
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from t2tbuild.nas.store.url import storage_url

RUNNING, TURNS, RECORD_BYTES = 100, 9, 2500
STUDY = "study"


def fill(url: str, trials: int) -> None:
    """Add a study with complete trials and RUNNING running ones, each with a record."""
    record = {"text": "x" * RECORD_BYTES}
    study = optuna.create_study(storage=url, study_name=STUDY)
    for number in range(trials + RUNNING):
        value = float(number) if number < trials else None
        state = TrialState.COMPLETE if number < trials else TrialState.RUNNING
        study.add_trial(optuna.create_trial(state=state, value=value, user_attrs={"record": record}))


def serve(url: str, port: int) -> None:
    run_grpc_proxy_server(get_storage(url), port=port)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def measure(connect: Callable[[], BaseStorage]) -> dict[str, float]:
    """Return the milliseconds of each operation of a new worker."""
    storage = connect()
    study = optuna.load_study(study_name=STUDY, storage=storage)
    found = {"read, a new worker": timed(lambda: study.get_trials(deepcopy=False))}
    found["read again"] = timed(lambda: study.get_trials(deepcopy=False))
    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])[0]._trial_id
    text = json.dumps({"at": time.time(), "text": "x" * RECORD_BYTES})
    found["save a record"] = timed(lambda: storage.set_trial_user_attr(running, "record", text))
    close(storage)
    return found


def close(storage: BaseStorage) -> None:
    """Close all connections; Optuna wraps the storage of a database in a cache."""
    storage.remove_session()
    if isinstance(backend := getattr(storage, "_backend", None), RDBStorage):
        backend.engine.dispose()


def connections(url: str) -> int:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        count = int(connection.execute(sqlalchemy.text(query)).scalar() or 0) - 1
    engine.dispose()
    return count


def count_connections(url: str, connect: Callable[[], BaseStorage], clients: int) -> int:
    """Return the connections in the server while so many workers have read a study."""
    before, storages = connections(url), [connect() for _ in range(clients)]
    for storage in storages:
        storage.get_all_studies()
    count = connections(url) - before
    for storage in storages:
        close(storage)
    return count


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.nas import postgresql

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="*", default=[500, 2000])
    parser.add_argument("--clients", type=int, default=50)
    given = parser.parse_args()
    table = Table("trials", "operation", "database", "gRPC proxy", "ratio", title="medians in ms")
    with tempfile.TemporaryDirectory() as folder, postgresql.server() as server:
        for trials in given.trials:
            url = storage_url(server.database(f"t{trials}"), Path(folder))
            fill(url, trials)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            proxy = multiprocessing.get_context("spawn").Process(target=serve, args=(url, port), daemon=True)
            proxy.start()
            GrpcStorageProxy(port=port).wait_server_ready(timeout=60)
            ways = {
                "database": lambda url=url: get_storage(url),
                "gRPC proxy": lambda port=port: GrpcStorageProxy(port=port),
            }
            turns = [{name: measure(connect) for name, connect in ways.items()} for _ in range(TURNS)]
            for operation in turns[0]["database"]:
                ours, theirs = (statistics.median(turn[name][operation] for turn in turns) for name in ways)
                table.add_row(str(trials), operation, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}")
            held = [count_connections(url, connect, given.clients) for connect in ways.values()]
            table.add_row(str(trials), f"connections of {given.clients} workers", *map(str, held), "")
            proxy.kill()
            proxy.join()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
