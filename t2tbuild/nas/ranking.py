"""The ranking of candidates: by the posterior of their ImageNet accuracy, or by their proxy training.

With `target: imagenet` candidates are ranked by the accuracy predicted from published trainings, updated by the proxy
trainings and zero-cost proxies whose validity was measured in this configuration. Invalid evidence has weight 0. With
`target: data` they are ranked by the result of their proxy training.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from t2tbuild.accuracy.posterior import Observation, Posterior, update_posterior
from t2tbuild.accuracy.predictor import Z_90, Accuracy, predict_accuracy
from t2tbuild.accuracy.validity import PROXY_TRAINING, Validity, validity_of
from t2tbuild.nas.record import Record
from t2tbuild.spec.data import InMemory
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.search import Search

MIN_RESULTS = 3
"""With fewer results a kind of evidence cannot be standardised, and is not used."""
SHAPE_ONLY = ("params", "macs", "depth")
"""Zero-cost proxies that depend on the candidate's shape only."""
IRRELEVANT_FIELDS = {"preset", "cache", "rungs", "scheduler", "reduction_factor", "seeds"}
"""Fields of a proxy that do not change the result of a training at a rung."""


@dataclass(frozen=True)
class Evidence:
    """The result of one kind of evidence on a candidate.

    A higher `value` is better. `validity` is None where it was not measured in this configuration. `weight` is the
    share in the posterior, 0 to 1.
    """

    kind: str
    value: float
    validity: Validity | None
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data for report.json."""
        measured = self.validity
        return {
            "kind": self.kind,
            "value": self.value,
            "weight": round(self.weight, 4),
            "validity": None if measured is None else {"tau": measured.tau, "low": measured.low, "high": measured.high},
        }


def proxy_validity(proxy: Proxy, steps: int) -> Validity | None:
    """Return the validity of proxy training at a rung, None where it was not measured."""
    return validity_of(PROXY_TRAINING, training_configuration(proxy, steps))


def training_configuration(proxy: Proxy, steps: int) -> dict[str, Any]:
    """Return all settings that the result of a proxy training at a rung depends on."""
    unused = {"images"} if isinstance(proxy.data, InMemory) else set()
    data = proxy.model_dump(mode="json", exclude=IRRELEVANT_FIELDS | unused)
    return data | {"steps": steps, "evaluated_at": list(proxy.evaluation_steps(steps))}


def zero_cost_configuration(proxy: Proxy, name: str) -> dict[str, Any]:
    """Return all settings that the value of a zero-cost proxy depends on."""
    if name in SHAPE_ONLY:
        return {}
    return proxy.model_dump(mode="json", include={"data", "width", "batch_size"})


class _Result(NamedTuple):
    """The result of one kind of evidence on a record; a higher value is better."""

    kind: str
    value: float
    validity: Validity | None


class Ranking:
    """The ranking of the candidates of one search, given all results so far.

    The results of `records` are standardised together: those of the candidates and of the base's first training.
    """

    def __init__(self, search: Search, records: Sequence[Record]) -> None:
        self._search, self._records = search, records
        self._validities: dict[str, Validity | None] = {}
        self._spreads: dict[str, tuple[float, float]] = {}

    @property
    def uses_prediction(self) -> bool:
        """Whether candidates are ranked by predicted ImageNet accuracy, not by results on the proxy's data."""
        return self._search.target == "imagenet"

    @property
    def uses_training(self) -> bool:
        """Whether proxy trainings affect the ranking: whether they are valid at the highest rung."""
        proxy = self._search.proxy
        return not self.uses_prediction or is_valid(proxy_validity(proxy, proxy.rungs[-1]))

    def value(self, record: Record, steps: int | None = None) -> float:
        """Return the value that ranks a record, higher is better.

        With `steps`, only its results up to that rung are used. For ImageNet it is the lower end of the posterior's
        interval in percent: of two equal means the one with the narrower interval ranks first. It is -inf for a record
        without a prediction, and with `target: data` for one without a result.
        """
        if self.uses_prediction:
            posterior = self.posterior(record, steps)
            return -math.inf if posterior is None else posterior.low
        rung = record.at(steps) if steps is not None else record.rungs[-1] if record.rungs else None
        return -math.inf if rung is None else rung.score(self._search.proxy.metric)

    def posterior(self, record: Record, steps: int | None = None) -> Posterior | None:
        """Return the posterior of a record's ImageNet top-1, None with `target: data` or without a prediction."""
        if record.model is None or not self.uses_prediction:
            return None
        prior = cached_prediction(record.model)
        if prior.top1 is None or prior.low is None or prior.high is None:
            return None
        given = [one for one in self._observations(record, steps) if one[1] is not None]
        found = update_posterior(
            prior.top1, (prior.high - prior.low) / (2 * Z_90), [one for _, one in given if one is not None]
        )
        return found if given else Posterior(prior.top1, prior.low, prior.high, ())

    def evidence(self, record: Record) -> list[Evidence]:
        """Return all evidence on a record besides the prediction, valid or not, with its weight.

        For ImageNet the weight is the share in the posterior. With `target: data` the training has weight 1.
        """
        posterior, observations = self.posterior(record), self._observations(record, None)
        if not self.uses_prediction:
            return [Evidence(*result, float(result.kind.startswith(PROXY_TRAINING))) for result, _ in observations]
        weights = iter(posterior.weights if posterior is not None else ())
        return [
            Evidence(*result, next(weights, 0.0) if observation is not None else 0.0)
            for result, observation in observations
        ]

    def _observations(self, record: Record, steps: int | None) -> list[tuple[_Result, Observation | None]]:
        """Return each result of a record with its validity, and as an observation where it is valid."""
        found: list[tuple[_Result, int | None]] = []
        reached = [rung for rung in record.rungs if steps is None or rung.steps <= steps]
        if reached:
            rung = reached[-1]
            kind, score = f"{PROXY_TRAINING}, {rung.steps} steps", rung.score(self._search.proxy.metric)
            found.append((_Result(kind, score, self._validity(kind, rung.steps)), rung.steps))
        found += [(_Result(name, score, self._validity(name)), None) for name, score in record.scores.items()]
        return [(result, self._observe(result, at)) for result, at in found]

    def _validity(self, kind: str, steps: int | None = None) -> Validity | None:
        """Return the validity of a kind of evidence, cached. `steps` is the rung of a proxy training."""
        if kind not in self._validities:
            proxy = self._search.proxy
            found = proxy_validity(proxy, steps) if steps else validity_of(kind, zero_cost_configuration(proxy, kind))
            self._validities[kind] = found
        return self._validities[kind]

    def _observe(self, result: _Result, steps: int | None) -> Observation | None:
        """Return a result as an observation, standardised over all records; None where it is not used."""
        validity = result.validity
        if not self.uses_prediction or validity is None or not is_valid(validity) or not math.isfinite(result.value):
            return None
        mean, deviation = self._spread_of(result.kind, steps)
        if not deviation:
            return None
        return Observation((result.value - mean) / deviation, validity.correlation, *self._top1)

    def _spread_of(self, kind: str, steps: int | None) -> tuple[float, float]:
        """Return mean and standard deviation of a kind's results over all records, cached; zeros if too few."""
        if kind not in self._spreads:
            metric = self._search.proxy.metric
            if steps is not None:
                values = [rung.score(metric) for one in self._records if (rung := one.at(steps)) is not None]
            else:
                values = [one.scores[kind] for one in self._records if kind in one.scores]
            finite = [value for value in values if math.isfinite(value)]
            few = len(finite) < MIN_RESULTS
            self._spreads[kind] = (0.0, 0.0) if few else (statistics.fmean(finite), statistics.pstdev(finite))
        return self._spreads[kind]

    @cached_property
    def _top1(self) -> tuple[float, float]:
        """Mean and standard deviation of top-1 over the records, the uncertainty of their predictions included."""
        priors = [cached_prediction(one.model) for one in self._records if one.model is not None]
        known = [one for one in priors if one.top1 is not None and one.low is not None and one.high is not None]
        tops = [one.top1 or 0.0 for one in known]
        variance = statistics.fmean(((one.high or 0.0) - (one.low or 0.0)) ** 2 / (2 * Z_90) ** 2 for one in known)
        return statistics.fmean(tops), math.sqrt(statistics.pvariance(tops) + variance)


def is_valid(validity: Validity | None) -> bool:
    """Whether evidence was measured and may affect a ranking."""
    return validity is not None and validity.is_valid


@lru_cache(maxsize=4096)
def cached_prediction(model: ModelSpec) -> Accuracy:
    """Return the predicted accuracy of a candidate, cached."""
    return predict_accuracy(model)
