"""ModelSpec -> ImageNet top-1, predicted from published trainings, with an interval. Torch-free."""

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
Z = 1.645
"""Standard deviations on either side that hold 90% of a normal distribution."""
TOKENIZER = 0.03
"""Standard deviation, in log error, of what another stage list than the published ones may do: 0.6 points at 80% top-1.
All that soft splits gain over hard ones is 0.1 (Table 7 of the paper: 79.5 and 81.5)."""
OTHER_KIND, OTHER_OPTIONS, OTHER_RECIPE = 0.2, 0.2, 0.1
"""How far apart models of different kinds of tokenizers, of different options, or of different recipes count among the
nearest, beside the logarithms of depth, width, MLP ratio and tokens."""
REACH = {"depth": 1.5, "width": 1.5, "mlp_ratio": 2.0, "tokens": 2.0}
"""By what factor a model may differ in each from the nearest published one; beyond that nothing is predicted."""


@dataclass(frozen=True)
class Neighbour:
    """A published model, as far as a prediction shows it. `top1` is in percent; for the rest see Shape."""

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
    """ImageNet-1k top-1 in percent, as predicted for a model that is trained by `recipe`.

    `low` and `high` are the ends of the 90% interval of a single training; `nearest` are the published models of the
    nearest shapes. Where no published model is near enough, `top1`, `low` and `high` are None and `reason` says why.
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
    """ln(100 - top1) of a model: its mean, the variance of the mean, and that of a training around it (`noise`)."""

    mean: float
    variance: float
    noise: float

    @property
    def deviation(self) -> float:
        """The standard deviation of a single training's result."""
        return math.sqrt(self.variance + self.noise)

    @property
    def upper(self) -> float:
        """The upper end of the 90% interval. Models are ranked by it: of two equal means the surest is first."""
        return self.mean + Z * self.deviation


@dataclass(frozen=True)
class Difference:
    """By how many points of top-1 one model is predicted to be above another, with the 90% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictor:
    """A fitted linear model of log error: a normal distribution over the weights of named features.

    `covariance` is that of the weights, in the order of `names`. `noise` is the standard deviation of one training
    around its shape's error, `unknown_*` those of an offset or slope that the published rows leave open.
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
        """The recipes that accuracies can be predicted for."""
        return tuple(name.removeprefix("recipe ") for name in self.names if name.startswith("recipe "))

    def estimate(self, shape: Shape, recipe: str) -> Estimate:
        """The log error of a shape that is trained by a recipe, which may be one that no row has."""
        terms = self._terms(shape, recipe)
        unknown = self._unknown(shape, recipe)
        variance = math.fsum((scale * self._unknown_scale(name)) ** 2 for (name, _), scale in unknown.items())
        return Estimate(self._mean(terms), variance + self._spread(terms), self.noise**2)

    def difference(self, shape: Shape, other: Shape, recipe: str) -> Difference:
        """By how much the top-1 of a shape exceeds another's, both trained once by the same recipe."""
        if shape == other:
            return Difference(0.0, 0.0, 0.0)
        mine, theirs = self._terms(shape, recipe), self._terms(other, recipe)
        means = [self._mean(terms) for terms in (mine, theirs)]
        apart = {place: mine.get(place, 0.0) - theirs.get(place, 0.0) for place in mine.keys() | theirs.keys()}
        unknown, others = (self._unknown(one, recipe) for one in (shape, other))
        variance = self._spread(apart) + 2 * self.noise**2
        for key in unknown.keys() | others.keys():  # an offset that both have is the same in both, and cancels
            (name, _), scale = key, unknown.get(key, 0.0) - others.get(key, 0.0)
            variance += (scale * self._unknown_scale(name)) ** 2
        value = math.exp(means[1]) - math.exp(means[0])
        half = Z * math.sqrt(variance) * math.exp(sum(means) / 2)
        return Difference(value, value - half, value + half)

    def nearest(self, shape: Shape, recipe: str, count: int = 3) -> tuple[Neighbour, ...]:
        """The published models of the nearest shapes, those of the same tokenizer, options and recipe first."""
        own = _logarithms(shape.depth, shape.width, shape.mlp_ratio, shape.tokens)
        kind = shape.tokenizer.split()[0]
        by_shape = sorted((_distance(own, there), there) for there in self._by_shape)
        limit = by_shape[min(count, len(by_shape)) - 1][0] + OTHER_KIND + OTHER_OPTIONS + OTHER_RECIPE
        found: list[tuple[float, int, Neighbour]] = []
        for apart, there in by_shape:
            if apart > limit:
                break
            for place, one in self._by_shape[there]:
                other = OTHER_KIND * (one.tokenizer.split()[0] != kind) + OTHER_RECIPE * (one.recipe != recipe)
                other += OTHER_OPTIONS * (one.options != shape.options)
                found.append((apart + other, place, one))
        return tuple(one for _, _, one in sorted(found)[:count])

    def outside(self, shape: Shape) -> str:
        """Why nothing is predicted for a shape; empty where a published one is near enough."""
        least, most = self._sides
        if not least <= shape.side <= most:
            return f"published models see images of {least} to {most} pixels, this one {shape.side}"
        here = (shape.depth, shape.width, shape.mlp_ratio, shape.tokens)
        reach = tuple(REACH.values())
        for there in self._places:
            ratios = (max(one / other, other / one) for one, other in zip(here, there, strict=True))
            if all(ratio <= limit for ratio, limit in zip(ratios, reach, strict=True)):
                return ""
        return (
            f"no published model is near {shape.depth} blocks of width {shape.width:.0f}, MLP ratio "
            f"{shape.mlp_ratio:.3g}, {shape.tokens} tokens"
        )

    def _terms(self, shape: Shape, recipe: str) -> dict[int, float]:
        """The features of a shape by their places among the weights."""
        values: Mapping[str, float] = features_of(shape) | {"teacher": float(recipe in self.teachers)}
        offsets = {f"recipe {recipe}": 1.0, f"slope {recipe}": values["size"], f"shape {shape.key}": 1.0}
        given = [*values.items(), *offsets.items()]
        return {self._place[name]: value for name, value in given if value and name in self._place}

    def _unknown(self, shape: Shape, recipe: str) -> dict[tuple[str, str], float]:
        """The offsets of a shape that the published rows leave open, each by its kind and name, with its feature."""
        found: dict[tuple[str, str], float] = {}
        if f"recipe {recipe}" not in self._place:
            found |= {("recipe", recipe): 1.0, ("slope", recipe): features_of(shape)["size"]}
        if f"shape {shape.key}" not in self._place:
            found["shape", shape.key] = 1.0
        if shape.tokenizer not in self._tokenizers:
            found["tokenizer", shape.tokenizer] = 1.0
        return found

    def _unknown_scale(self, kind: str) -> float:
        """The standard deviation of an offset that the published rows leave open."""
        scales = {"recipe": self.unknown_recipe, "slope": self.unknown_slope, "shape": self.unknown_shape}
        return scales.get(kind, TOKENIZER)

    def _mean(self, terms: Mapping[int, float]) -> float:
        """The log error of a sum of features."""
        return self.intercept + math.fsum(self.weights[place] * value for place, value in terms.items())

    def _spread(self, terms: Mapping[int, float]) -> float:
        """The variance of a sum of weights."""
        pairs = terms.items()
        return math.fsum(a * b * self.covariance[i][j] for i, a in pairs for j, b in pairs)

    @functools.cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @functools.cached_property
    def _tokenizers(self) -> frozenset[str]:
        return frozenset(one.tokenizer for one in self.published)

    @functools.cached_property
    def _sides(self) -> tuple[int, int]:
        sides = [one.side for one in self.published]
        return min(sides), max(sides)

    @functools.cached_property
    def _places(self) -> tuple[tuple[float, ...], ...]:
        """Depth, width, MLP ratio and tokens that were published, each once."""
        found = dict.fromkeys((one.depth, one.width, one.mlp_ratio, one.tokens) for one in self.published)
        return tuple(found)

    @functools.cached_property
    def _by_shape(self) -> dict[tuple[float, ...], list[tuple[int, Neighbour]]]:
        """The published models by the logarithms of depth, width, MLP ratio and tokens, each with its place."""
        found: dict[tuple[float, ...], list[tuple[int, Neighbour]]] = {}
        for place, one in enumerate(self.published):
            found.setdefault(_logarithms(one.depth, one.width, one.mlp_ratio, one.tokens), []).append((place, one))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads: numbers with six digits, half of the symmetric covariance."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data |= {"weights": [_short(weight) for weight in self.weights]}
        data |= {"covariance": [[_short(one) for one in row[: at + 1]] for at, row in enumerate(self.covariance)]}
        columns = [field.name for field in fields(Neighbour)]
        return data | {"published": [[getattr(one, name) for name in columns] for one in self.published]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Predictor":
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


def _short(number: float) -> float:
    return float(f"{number:.6g}")


@functools.cache
def shipped_predictor() -> Predictor:
    """The predictor that the package ships."""
    return Predictor.from_json(json.loads(FILE.read_text(encoding="utf-8")))


def predict_accuracy(model: AnyModel, recipe: str = DEFAULT_RECIPE) -> Accuracy:
    """The ImageNet-1k top-1 that `model` is predicted to reach when it is trained by `recipe`, with a 90% interval.

    The prediction is for 1,000 classes, whatever the head of `model`. Where no published model is near enough, and for
    models of timm, there is none, and `reason` says why. Raises InputError for a recipe that is not known.

        >>> from t2tbuild import load_spec
        >>> print(predict_accuracy(load_spec("t2t_vit_14").model).nearest[0])
        t2t_vit_14 81.5% (t2t, recipe t2t)
    """
    predictor = shipped_predictor()
    if recipe not in predictor.recipes:
        known = ", ".join(predictor.recipes)
        raise InputError(f"no published recipe named {recipe!r}; write one of: {known}")
    if not isinstance(model, ModelSpec):
        return Accuracy(None, None, None, (), recipe, f"{model.name} is a model of timm")
    return accuracy_of(shape_of(model), recipe, predictor)


def accuracy_of(shape: Shape, recipe: str, predictor: Predictor) -> Accuracy:
    """The accuracy of a shape by a predictor."""
    nearest, reason = predictor.nearest(shape, recipe), predictor.outside(shape)
    if reason:
        return Accuracy(None, None, None, nearest, recipe, reason)
    found = predictor.estimate(shape, recipe)
    half = Z * found.deviation
    top1, low, high = (100 - math.exp(found.mean + step) for step in (0.0, half, -half))
    return Accuracy(top1, low, high, nearest, recipe)
