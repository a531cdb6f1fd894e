"""Names that earlier versions wrote into studies and reports. They are still read, and written for one version."""

from collections.abc import Mapping
from typing import Any

from t2tbuild.spec.renamed import warn_old_name

STATES = {"climbing": "running", "top": "completed", "stopped": "pruned"}
"""Old -> new state of a record."""
RECORD_KEYS = {"arm": "source", "passed": "passed_over"}
"""Old -> new key of a stored record."""
REPORT_KEYS = {"judged_by": "proxy_metric", "race": "equal_compute", "repeats": "reference_runs"}
"""Old -> new key of report.json."""
TEST_KEYS = {"looks": "evaluations"}
"""Old -> new key of the results on the test split, in studies and in report.json."""
RUNG_KEYS = {"tells": "discriminates"}
"""Old -> new key of a rung in report.json."""
EVIDENCE_KEYS = {"belief": "posterior"}
"""Old -> new key of the evidence on a record in report.json."""
FIT_KEYS = {"dial": "axis"}
"""Old -> new key of `fit --json`."""
COUNT_KEYS = {"stopped": "pruned", "top": "completed"}
"""Old -> new key of the counts in report.json."""


def with_new_names(data: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return `data` with every old key under its new name."""
    return {names.get(key, key): value for key, value in data.items()}


def with_old_names(data: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return `data` with every renamed key also under its old name."""
    return data | {old: data[new] for old, new in names.items() if new in data}


def renamed_property(old: str, new: str) -> property:
    """Return a property that reads the attribute `new` under its old name, with a DeprecationWarning."""

    def read(self: object) -> Any:
        warn_old_name(old, new)
        return getattr(self, new)

    return property(read)


class OldVerdictNames:
    """The old names of the fields of a verdict."""

    race = renamed_property("race", "equal_compute")
