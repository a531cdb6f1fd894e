"""The heartbeat of a running training: a thread that records in the store that its worker is alive."""

import contextlib
import threading
from collections.abc import Iterator

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from t2tbuild.nas.store.store import Store
from t2tbuild.nas.store.trials import Claim


@contextlib.contextmanager
def heartbeat(store: Store, claim: Claim, seconds: float) -> Iterator[None]:
    """Record a heartbeat every `seconds` while the context lasts. A heartbeat that fails is left out."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(seconds):
            with contextlib.suppress(StorageInternalError, SQLAlchemyError):
                store.storage.record_heartbeat(claim.trial_id)
        store.storage.remove_session()

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=1.0)  # it may hang where the database does
