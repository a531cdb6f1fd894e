"""Search: a search spec in, the best spec within its budget out."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.nas.record import Record, State
    from t2tbuild.nas.run import SearchResult, search
    from t2tbuild.nas.verdict import Verdict
    from t2tbuild.nas.worker import Outcome

__all__ = ["Outcome", "Record", "SearchResult", "State", "Verdict", "search"]

__getattr__ = lazy_names(
    __name__,
    {
        "Outcome": "t2tbuild.nas.worker",
        "Record": "t2tbuild.nas.record",
        "SearchResult": "t2tbuild.nas.run",
        "State": "t2tbuild.nas.record",
        "Verdict": "t2tbuild.nas.verdict",
        "search": "t2tbuild.nas.run",
    },
)
