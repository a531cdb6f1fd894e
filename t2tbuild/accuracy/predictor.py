"""Predict the ImageNet top-1 of a ModelSpec from published trainings, with an interval. Torch-free."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from t2tbuild.accuracy.features import Shape, features_of, shape_of
from t2tbuild.errors import InputError
from t2tbuild.spec.model import AnyModel, ModelSpec

FILE = Path(__file__).parent / "predictor.json"
"""The fitted predictor; accuracy/fit.py writes it."""
DEFAULT_RECIPE = "t2t"
Z_90 = 1.645
"""A 90% interval of a normal distribution extends this many standard deviations to either side."""
UNKNOWN_TOKENIZER_STD = 0.03
"""Standard deviation, in log error, of the effect of an unpublished tokenizer: 0.6 points at 80% top-1. For comparison,
soft splits gain 0.1 over hard ones (Table 7 of the paper: 81.5 and 79.5)."""
KIND_DISTANCE, OPTIONS_DISTANCE, RECIPE_DISTANCE = 0.2, 0.2, 0.1
"""Distances for different tokenizer kinds, options and recipes. They are added to the distances in the logarithms of
depth, width, MLP ratio and tokens when the nearest published models are ranked."""
MAX_RATIOS = {"depth": 1.5, "width": 1.5, "mlp_ratio": 2.0, "tokens": 2.0}
"""A model is predicted only if a published one differs from it by at most these factors."""


@dataclass(frozen=True)
class Neighbour:
    """A published model near a predicted one. `top1` is in percent; for the other fields see Shape."""

    name: str
    source: str
    recipe: str
    top1: float
    depth: int
    width: float
    mlp_ratio: float
    tokens: int
    side: int
    tokenizer: str
    options: str

    def __str__(self) -> str:
        return f"{self.name} {self.top1:g}% ({self.source}, recipe {self.recipe})"


@dataclass(frozen=True)
class Accuracy:
    """The predicted ImageNet-1k top-1 of a model trained by `recipe`, in percent.

    `low` and `high` are the ends of the 90% interval of a single training. `nearest` are the published models of the
    nearest shapes. Where no published model is near enough, `top1`, `low` and `high` are None and `reason` is the
    reason.
    """

    top1: float | None
    low: float | None
    high: float | None
    nearest: tuple[Neighbour, ...] = ()
    recipe: str = DEFAULT_RECIPE
    reason: str = ""

    def __str__(self) -> str:
        if self.top1 is None:
            return f"not predicted: {self.reason}"
        return f"{self.top1:.1f}% ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True)
class Estimate:
    """The predicted ln(100 - top1) of a model: its mean, the variance of the mean, and the variance of one training."""

    mean: float
    variance: float
    noise: float

    @property
    def deviation(self) -> float:
        """The standard deviation of the result of a single training."""
        return math.sqrt(self.variance + self.noise)

    @property
    def upper(self) -> float:
        """The upper end of the 90% interval."""
        return self.mean + Z_90 * self.deviation


@dataclass(frozen=True)
class Difference:
    """The predicted difference of two models in points of top-1, with the 90% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictor:
    """A fitted linear model of log error, with a normal distribution over the weights of named features.

    `covariance` is that of the weights, in the order of `names`. `noise` is the standard deviation of one training
    around the error of its shape, `unknown_*` are those of offsets and slopes without published trainings.
    """

    intercept: float
    noise: float
    unknown_recipe: float
    unknown_slope: float
    unknown_shape: float
    names: tuple[str, ...]
    weights: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    teachers: tuple[str, ...]
    published: tuple[Neighbour, ...]

    @functools.cached_property
    def recipes(self) -> tuple[str, ...]:
        """The recipes that the predictor supports."""
        return tuple(name.removeprefix("recipe ") for name in self.names if name.startswith("recipe "))

    def estimate(self, shape: Shape, recipe: str) -> Estimate:
        """Return the log error of a shape trained by a recipe, which may be an unknown one."""
        terms = self._features(shape, recipe)
        unknown = self._unfitted(shape, recipe)
        variance = math.fsum((scale * self._unfitted_std(name)) ** 2 for (name, _), scale in unknown.items())
        return Estimate(self._mean(terms), variance + self._variance(terms), self.noise**2)

    def difference(self, shape: Shape, other: Shape, recipe: str) -> Difference:
        """Return by how many points the top-1 of a shape exceeds that of another, each trained once by `recipe`."""
        if shape == other:
            return Difference(0.0, 0.0, 0.0)
        mine, theirs = self._features(shape, recipe), self._features(other, recipe)
        means = [self._mean(terms) for terms in (mine, theirs)]
        apart = {place: mine.get(place, 0.0) - theirs.get(place, 0.0) for place in mine.keys() | theirs.keys()}
        unknown, others = (self._unfitted(one, recipe) for one in (shape, other))
        variance = self._variance(apart) + 2 * self.noise**2
        for key in unknown.keys() | others.keys():  # an offset that both have cancels
            (name, _), scale = key, unknown.get(key, 0.0) - others.get(key, 0.0)
            variance += (scale * self._unfitted_std(name)) ** 2
        value = math.exp(means[1]) - math.exp(means[0])
        half = Z_90 * math.sqrt(variance) * math.exp(sum(means) / 2)
        return Difference(value, value - half, value + half)

    def nearest(self, shape: Shape, recipe: str, count: int = 3) -> tuple[Neighbour, ...]:
        """Return the published models of the nearest shapes, preferring the same tokenizer, options and recipe."""
        own = _logarithms(shape.depth, shape.width, shape.mlp_ratio, shape.tokens)
        kind = shape.tokenizer.split()[0]
        by_shape = sorted((_distance(own, there), there) for there in self._by_shape)
        limit = by_shape[min(count, len(by_shape)) - 1][0] + KIND_DISTANCE + OPTIONS_DISTANCE + RECIPE_DISTANCE
        found: list[tuple[float, int, Neighbour]] = []
        for apart, there in by_shape:
            if apart > limit:
                break
            for place, one in self._by_shape[there]:
                other = KIND_DISTANCE * (one.tokenizer.split()[0] != kind) + RECIPE_DISTANCE * (one.recipe != recipe)
                other += OPTIONS_DISTANCE * (one.options != shape.options)
                found.append((apart + other, place, one))
        return tuple(one for _, _, one in sorted(found)[:count])

    def reason_not_predicted(self, shape: Shape) -> str:
        """Return why a shape is not predicted; empty where a published model is near enough."""
        if shape.unpublished:
            return f"no published model has the {shape.unpublished} of an extension"
        least, most = self._sides
        if not least <= shape.side <= most:
            return f"published models have images of {least} to {most} pixels, this one of {shape.side}"
        here = (shape.depth, shape.width, shape.mlp_ratio, shape.tokens)
        reach = tuple(MAX_RATIOS.values())
        for there in self._published_shapes:
            ratios = (max(one / other, other / one) for one, other in zip(here, there, strict=True))
            if all(ratio <= limit for ratio, limit in zip(ratios, reach, strict=True)):
                return ""
        return (
            f"no published model is near {shape.depth} blocks of width {shape.width:.0f}, MLP ratio "
            f"{shape.mlp_ratio:.3g}, {shape.tokens} tokens"
        )

    def _features(self, shape: Shape, recipe: str) -> dict[int, float]:
        """Return the non-zero features of a shape by the index of their weight."""
        values: Mapping[str, float] = features_of(shape) | {"teacher": float(recipe in self.teachers)}
        offsets = {f"recipe {recipe}": 1.0, f"slope {recipe}": values["size"], f"shape {shape.key}": 1.0}
        given = [*values.items(), *offsets.items()]
        return {self._index[name]: value for name, value in given if value and name in self._index}

    def _unfitted(self, shape: Shape, recipe: str) -> dict[tuple[str, str], float]:
        """Return the features of a shape without a fitted weight, by kind and name."""
        found: dict[tuple[str, str], float] = {}
        if f"recipe {recipe}" not in self._index:
            found |= {("recipe", recipe): 1.0, ("slope", recipe): features_of(shape)["size"]}
        if f"shape {shape.key}" not in self._index:
            found["shape", shape.key] = 1.0
        if shape.tokenizer not in self._tokenizers:
            found["tokenizer", shape.tokenizer] = 1.0
        return found

    def _unfitted_std(self, kind: str) -> float:
        """Return the standard deviation of a weight that was not fitted."""
        scales = {"recipe": self.unknown_recipe, "slope": self.unknown_slope, "shape": self.unknown_shape}
        return scales.get(kind, UNKNOWN_TOKENIZER_STD)

    def _mean(self, terms: Mapping[int, float]) -> float:
        """Return the mean log error of some features."""
        return self.intercept + math.fsum(self.weights[place] * value for place, value in terms.items())

    def _variance(self, terms: Mapping[int, float]) -> float:
        """Return the variance of a weighted sum of weights."""
        pairs = terms.items()
        return math.fsum(a * b * self.covariance[i][j] for i, a in pairs for j, b in pairs)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @functools.cached_property
    def _tokenizers(self) -> frozenset[str]:
        return frozenset(one.tokenizer for one in self.published)

    @functools.cached_property
    def _sides(self) -> tuple[int, int]:
        sides = [one.side for one in self.published]
        return min(sides), max(sides)

    @functools.cached_property
    def _published_shapes(self) -> tuple[tuple[float, ...], ...]:
        """The published combinations of depth, width, MLP ratio and tokens, each once."""
        found = dict.fromkeys((one.depth, one.width, one.mlp_ratio, one.tokens) for one in self.published)
        return tuple(found)

    @functools.cached_property
    def _by_shape(self) -> dict[tuple[float, ...], list[tuple[int, Neighbour]]]:
        """The published models by the logarithms of depth, width, MLP ratio and tokens, each with its index."""
        found: dict[tuple[float, ...], list[tuple[int, Neighbour]]] = {}
        for place, one in enumerate(self.published):
            found.setdefault(_logarithms(one.depth, one.width, one.mlp_ratio, one.tokens), []).append((place, one))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`: numbers with six digits, half of the symmetric covariance."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data |= {"weights": [_round_digits(weight) for weight in self.weights]}
        data |= {
            "covariance": [[_round_digits(one) for one in row[: at + 1]] for at, row in enumerate(self.covariance)]
        }
        columns = [field.name for field in fields(Neighbour)]
        return data | {"published": [[getattr(one, name) for name in columns] for one in self.published]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Predictor":
        """Return the predictor that `to_json` wrote as plain data."""
        half = data["covariance"]
        size = range(len(half))
        covariance = tuple(tuple(half[max(i, j)][min(i, j)] for j in size) for i in size)
        found = {field.name: data[field.name] for field in fields(cls)}
        found |= {name: tuple(data[name]) for name in ("names", "weights", "teachers")}
        published = tuple(Neighbour(*row) for row in data["published"])
        return cls(**(found | {"covariance": covariance, "published": published}))


def _logarithms(*values: float) -> tuple[float, ...]:
    return tuple(math.log(value) for value in values)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(abs(here - there) for here, there in zip(one, other, strict=True))


def _round_digits(number: float) -> float:
    return float(f"{number:.6g}")


@functools.cache
def shipped_predictor() -> Predictor:
    """Return the predictor that the package ships."""
    return Predictor.from_json(json.loads(FILE.read_text(encoding="utf-8")))


def predicted_error_bound(shape: Shape) -> float:
    """Return the upper end of the 90% interval of a shape's predicted log error; models are ranked by it, best first.

    Of two equal means the one with the narrower interval ranks first.
    """
    return shipped_predictor().estimate(shape, DEFAULT_RECIPE).upper


def predict_accuracy(model: AnyModel, recipe: str = DEFAULT_RECIPE) -> Accuracy:
    """Return the predicted ImageNet-1k top-1 of a model trained by `recipe`, with a 90% interval.

    The prediction is for 1,000 classes, whatever the head of `model`. There is none for timm models and where no
    published model is near enough; `reason` is the reason. Raises InputError for an unknown recipe.

        >>> from t2tbuild import load_spec
        >>> print(predict_accuracy(load_spec("t2t_vit_14").model).nearest[0])
        t2t_vit_14 81.5% (t2t, recipe t2t)
    """
    predictor = shipped_predictor()
    if recipe not in predictor.recipes:
        known = ", ".join(predictor.recipes)
        raise InputError(f"no published recipe is named {recipe!r}; write one of: {known}")
    if not isinstance(model, ModelSpec):
        return Accuracy(None, None, None, (), recipe, f"{model.name} is a timm model")
    return predict_shape_accuracy(shape_of(model), recipe, predictor)


def predict_shape_accuracy(shape: Shape, recipe: str, predictor: Predictor) -> Accuracy:
    """Return the accuracy of a shape by a predictor."""
    nearest, reason = predictor.nearest(shape, recipe), predictor.reason_not_predicted(shape)
    if reason:
        return Accuracy(None, None, None, nearest, recipe, reason)
    found = predictor.estimate(shape, recipe)
    half = Z_90 * found.deviation
    top1, low, high = (100 - math.exp(found.mean + step) for step in (0.0, half, -half))
    return Accuracy(top1, low, high, nearest, recipe)
