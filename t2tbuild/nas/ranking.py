"""By what a search ranks its candidates: what is believed of their ImageNet accuracy, or what the proxy's data show.

For `target: imagenet` that is the prediction from published trainings, updated by the proxy trainings and the
zero-cost proxies whose validity was measured in this configuration. What is not valid has weight 0. For
`target: data` it is the proxy training's own result.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from t2tbuild.accuracy.posterior import Belief, Observation, update
from t2tbuild.accuracy.predictor import Accuracy, Z, predict_accuracy
from t2tbuild.accuracy.validity import PROXY_TRAINING, Validity, validity_of
from t2tbuild.nas.record import Record
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search

FEWEST = 3
"""Results below which none of them can be standardised, and so none counts."""
SHAPE_ONLY = ("params", "macs", "depth")
"""Zero-cost proxies that depend on the candidate alone."""
NOT_OF_A_TRAINING = {"rungs", "stop", "keep", "seeds"}
"""Fields of a proxy that do not change what a training shows at a rung."""


@dataclass(frozen=True)
class Evidence:
    """What one kind of evidence says of a candidate.

    `value` is its result, the higher the better; `validity` None where it was not measured in this configuration;
    `weight` its share in the belief, 0 to 1.
    """

    kind: str
    value: float
    validity: Validity | None
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        measured = self.validity
        return {
            "kind": self.kind,
            "value": self.value,
            "weight": round(self.weight, 4),
            "validity": None if measured is None else {"tau": measured.tau, "low": measured.low, "high": measured.high},
        }


def proxy_validity(proxy: Proxy, steps: int) -> Validity | None:
    """The validity of the results of a proxy training at a rung; None where it was not measured."""
    return validity_of(PROXY_TRAINING, training_configuration(proxy, steps))


def training_configuration(proxy: Proxy, steps: int) -> dict[str, Any]:
    """What a result of a proxy training at a rung depends on, but for the candidate and the seed."""
    data = proxy.model_dump(mode="json", exclude=NOT_OF_A_TRAINING)
    return data | {"steps": steps, "evaluated_at": list(proxy.judged_at(steps))}


def zero_cost_configuration(proxy: Proxy, name: str) -> dict[str, Any]:
    """What a zero-cost proxy depends on, but for the candidate and the seed."""
    if name in SHAPE_ONLY:
        return {}
    return proxy.model_dump(mode="json", include={"data", "width", "batch_size"})


class _Result(NamedTuple):
    """What one kind of evidence gave for a record; the higher the value, the better."""

    kind: str
    value: float
    validity: Validity | None


class Ranking:
    """Candidates of one search by what is believed of them, given all that is known by now.

    `records` are those whose results are standardised together: the candidates and the base's first training.
    """

    def __init__(self, search: Search, records: Sequence[Record]) -> None:
        self._search, self._records = search, records
        self._validities: dict[str, Validity | None] = {}
        self._spreads: dict[str, tuple[float, float]] = {}

    @property
    def by_prediction(self) -> bool:
        """Whether ImageNet accuracy is sought, and not the results of the proxy's data."""
        return self._search.target == "imagenet"

    @property
    def training_counts(self) -> bool:
        """Whether the proxy trainings count in the ranking: those of the highest rung."""
        proxy = self._search.proxy
        return not self.by_prediction or is_valid(proxy_validity(proxy, proxy.rungs[-1]))

    def value(self, record: Record, steps: int | None = None) -> float:
        """By what a record is ranked, the higher the better; its results up to `steps` alone, if that is given.

        For ImageNet it is the lower end of the interval of what is believed, in percent: of two equal beliefs the
        one with the narrower interval ranks first. A record without a prediction, or without a result where results
        rank, has -inf.
        """
        if self.by_prediction:
            belief = self.belief(record, steps)
            return -math.inf if belief is None else belief.low
        rung = record.at(steps) if steps is not None else record.rungs[-1] if record.rungs else None
        return -math.inf if rung is None else rung.score(self._search.proxy.metric)

    def belief(self, record: Record, steps: int | None = None) -> Belief | None:
        """What is believed of a record's ImageNet top-1; None where that is not sought, or nothing is predicted."""
        if record.model is None or not self.by_prediction:
            return None
        prior = prediction(record.model)
        if prior.top1 is None or prior.low is None or prior.high is None:
            return None
        given = [one for one in self._observations(record, steps) if one[1] is not None]
        found = update(prior.top1, (prior.high - prior.low) / (2 * Z), [one for _, one in given if one is not None])
        return found if given else Belief(prior.top1, prior.low, prior.high, ())

    def evidence(self, record: Record) -> list[Evidence]:
        """All evidence on a record beside the prediction, valid or not, with its weight.

        For ImageNet that is its share in the belief. For the proxy's data the training has all of it.
        """
        belief, observations = self.belief(record), self._observations(record, None)
        if not self.by_prediction:
            return [Evidence(*result, float(result.kind.startswith(PROXY_TRAINING))) for result, _ in observations]
        weights = iter(belief.weights if belief is not None else ())
        return [
            Evidence(*result, next(weights, 0.0) if observation is not None else 0.0)
            for result, observation in observations
        ]

    def _observations(self, record: Record, steps: int | None) -> list[tuple[_Result, Observation | None]]:
        """Each result of a record with its validity, and the observation that it makes where it is valid."""
        found: list[tuple[_Result, int | None]] = []
        reached = [rung for rung in record.rungs if steps is None or rung.steps <= steps]
        if reached:
            rung = reached[-1]
            kind, score = f"{PROXY_TRAINING}, {rung.steps} steps", rung.score(self._search.proxy.metric)
            found.append((_Result(kind, score, self._validity(kind, rung.steps)), rung.steps))
        found += [(_Result(name, score, self._validity(name)), None) for name, score in record.scores.items()]
        return [(result, self._observe(result, at)) for result, at in found]

    def _validity(self, kind: str, steps: int | None = None) -> Validity | None:
        """The validity of a kind of evidence in this search, looked up once; of a training with its steps."""
        if kind not in self._validities:
            proxy = self._search.proxy
            found = proxy_validity(proxy, steps) if steps else validity_of(kind, zero_cost_configuration(proxy, kind))
            self._validities[kind] = found
        return self._validities[kind]

    def _observe(self, result: _Result, steps: int | None) -> Observation | None:
        """What a result says of its model among all records; None where it does not count."""
        validity = result.validity
        if not self.by_prediction or validity is None or not is_valid(validity) or not math.isfinite(result.value):
            return None
        mean, deviation = self._spread_of(result.kind, steps)
        if not deviation:
            return None
        return Observation((result.value - mean) / deviation, validity.correlation, *self._top1)

    def _spread_of(self, kind: str, steps: int | None) -> tuple[float, float]:
        """Mean and standard deviation of a kind's results over all records, computed once; 0 and 0 of too few."""
        if kind not in self._spreads:
            metric = self._search.proxy.metric
            if steps is not None:
                values = [rung.score(metric) for one in self._records if (rung := one.at(steps)) is not None]
            else:
                values = [one.scores[kind] for one in self._records if kind in one.scores]
            finite = [value for value in values if math.isfinite(value)]
            few = len(finite) < FEWEST
            self._spreads[kind] = (0.0, 0.0) if few else (statistics.fmean(finite), statistics.pstdev(finite))
        return self._spreads[kind]

    @cached_property
    def _top1(self) -> tuple[float, float]:
        """Mean and standard deviation of top-1 among the records: of their predictions and of what these leave open."""
        priors = [prediction(one.model) for one in self._records if one.model is not None]
        known = [one for one in priors if one.top1 is not None and one.low is not None and one.high is not None]
        tops = [one.top1 or 0.0 for one in known]
        open_ = statistics.fmean(((one.high or 0.0) - (one.low or 0.0)) ** 2 / (2 * Z) ** 2 for one in known)
        return statistics.fmean(tops), math.sqrt(statistics.pvariance(tops) + open_)


def is_valid(validity: Validity | None) -> bool:
    """Whether evidence of a validity may decide."""
    return validity is not None and validity.counts


@lru_cache(maxsize=4096)
def prediction(model: ModelSpec) -> Accuracy:
    """The predicted accuracy of a candidate, remembered."""
    return predict_accuracy(model)
