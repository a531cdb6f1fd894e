"""Search: a search spec in, the best spec within its budget out. The package is also the function `search` itself."""

from t2tbuild._callable import make_callable
from t2tbuild.search.record import Record, State
from t2tbuild.search.run import SearchResult, search

__all__ = ["Record", "SearchResult", "State", "search"]

make_callable(__name__, search)
