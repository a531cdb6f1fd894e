"""Corrupt images of WebDataset, which timm leaves out and tells its log only."""

import logging
import sys
import traceback

from t2tbuild.training.data.decode import Corrupt, reason


class SkippedSamples(logging.Filter):
    """Collects what timm's reader leaves out: its log hears of it while the error is being handled."""

    LOGGER = "timm.data.readers.reader_wds"

    def __init__(self) -> None:
        super().__init__()
        self.corrupt: list[Corrupt] = []

    def __enter__(self) -> "SkippedSamples":
        logging.getLogger(self.LOGGER).addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(self.LOGGER).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if error is None:
            return True
        self.corrupt.append(Corrupt(_place(error) or record.getMessage(), reason(error)))
        return False

    def taken(self) -> tuple[Corrupt, ...]:
        """What was heard since the last time."""
        taken, self.corrupt = tuple(self.corrupt), []
        return taken


def _place(error: BaseException) -> str | None:
    """Shard and key of the sample that was being decoded, from webdataset's own variables."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        sample, source = frame.f_locals.get("sample"), frame.f_locals.get("source")
        if isinstance(sample, dict) and "__key__" in sample:
            return f"{sample.get('__url__')}: {sample['__key__']}"
        if isinstance(source, dict) and "url" in source:
            return str(source["url"])
    return None
