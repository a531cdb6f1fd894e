"""Search: a search spec in, the best spec within its budget out. The package is also the function `search` itself."""

from typing import TYPE_CHECKING

from t2tbuild._callable import make_callable
from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.search.record import Record, State
    from t2tbuild.search.run import SearchResult, search
    from t2tbuild.search.verdict import Verdict
    from t2tbuild.search.worker import Outcome

__all__ = ["Outcome", "Record", "SearchResult", "State", "Verdict", "search"]

__getattr__ = lazy_names(
    __name__,
    {
        "Outcome": "t2tbuild.search.worker",
        "Record": "t2tbuild.search.record",
        "SearchResult": "t2tbuild.search.run",
        "State": "t2tbuild.search.record",
        "Verdict": "t2tbuild.search.verdict",
        "search": "t2tbuild.search.run",
    },
)

make_callable(__name__)
