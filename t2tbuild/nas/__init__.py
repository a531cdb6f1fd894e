"""Architecture search: find the best spec within a budget."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.nas.record import Outcome, Record, State
    from t2tbuild.nas.result import SearchResult
    from t2tbuild.nas.run import search
    from t2tbuild.nas.verdict import Verdict

__all__ = ["Outcome", "Record", "SearchResult", "State", "Verdict", "search"]

__getattr__ = lazy_names(
    __name__,
    {
        "Outcome": "t2tbuild.nas.record",
        "Record": "t2tbuild.nas.record",
        "SearchResult": "t2tbuild.nas.result",
        "State": "t2tbuild.nas.record",
        "Verdict": "t2tbuild.nas.verdict",
        "search": "t2tbuild.nas.run",
    },
)
