"""Latencies that several searches share: a file for each shape in the cache folder, by method, device and versions.

A reading of one search is used by the next, so that the same shape is within the limit in both or in neither.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict, fields

from t2tbuild.nas.latency_readings import LatencyMeasurement
from t2tbuild.weights.cache import cache_folder


class LatencyCache:
    """The readings of one method on one device with the same versions. What cannot be read or written is measured."""

    def __init__(self, method: str) -> None:
        digest = hashlib.sha256(method.encode()).hexdigest()[:8]
        self.folder = cache_folder() / "latency" / f"{re.sub('[^A-Za-z0-9.]+', '-', method)[:100]}-{digest}"

    def get(self, key: str) -> LatencyMeasurement | None:
        """Return the reading of a model by its key, None where there is none."""
        try:
            values = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            reading = LatencyMeasurement(**values)
            return reading if reading.seconds > 0 else None
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, key: str, reading: LatencyMeasurement) -> LatencyMeasurement:
        """Write a reading, and return the one that counts: that of another search, if it was faster.

        A file is complete or not there, without a lock: a link to a written file is made only where there is none.
        """
        values = {name: value for name, value in asdict(reading).items() if name in _OF_THE_MACHINE}
        file = self.folder / f"{key}.json"
        temporary = self.folder / f".{key}.{os.getpid()}-{secrets.token_hex(3)}.tmp"
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(values), encoding="utf-8")
                os.link(temporary, file)
            finally:
                temporary.unlink(missing_ok=True)
        return self.get(key) or reading


_OF_THE_SEARCH = {"work", "predicted"}
_OF_THE_MACHINE = {one.name for one in fields(LatencyMeasurement)} - _OF_THE_SEARCH
