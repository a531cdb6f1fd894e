"""The notifier: it passes what changed in the store of a search to a listener."""

from collections.abc import Callable

from t2tbuild.nas.record import BASE, Record, State
from t2tbuild.nas.store.store import Store
from t2tbuild.nas.worker import Listener


def make_notifier(store: Store, listener: Listener, known: dict[tuple[str, int, bool], Record]) -> Callable[[], bool]:
    """Return a function that passes every record that changed since its last call, or is not `known`, to a listener.

    It returns whether a training of the base has ended.
    """

    def notify() -> bool:
        found = store.snapshot()
        for record in (*found.reference_runs, *found.records):
            identity = (record.number, record.seed, record.full)
            if known.get(identity) != record:
                known[identity] = record
                listener(record)
        return any(one.number == BASE and one.state is not State.RUNNING for one in found.reference_runs)

    return notify
