"""Latencies of many members: a few are measured, those of the others are predicted from them."""

from collections.abc import Callable, Sequence

from t2tbuild.bench.latency_model import MIN_MODELS, latency_features
from t2tbuild.nas.latency_meter import LatencyMeter
from t2tbuild.nas.supernet.pool import SupernetMember

MEASURED = 2 * MIN_MODELS
"""So many members are measured, spread over the MACs of all."""


def spread(members: Sequence[SupernetMember]) -> list[SupernetMember]:
    """Return the MEASURED members that are spread evenly over all, from the first to the last."""
    indices = {round(index * (len(members) - 1) / (MEASURED - 1)) for index in range(MEASURED)}
    return [members[index] for index in sorted(indices)]


class LatencyEstimator:
    """Estimates the latencies of members in seconds. The first call of `estimate` measures."""

    def __init__(self, meter: LatencyMeter, members: Sequence[SupernetMember], check: Callable[[], None]) -> None:
        for one in spread(members):
            meter.measure(one.model, check)
        self.meter, self.fitted = meter, meter.fit()

    def estimate(self, member: SupernetMember) -> float | None:
        """Return the measured latency of a member, or else the predicted one; None where neither is known."""
        if (known := self.meter.readings.get(member.key)) is not None:
            return known.seconds
        work = latency_features(member.model, self.meter.limit.batch)
        return None if self.fitted is None or work is None else self.fitted.predict(work)
