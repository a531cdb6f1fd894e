"""Published models -> a Predictor: Bayesian linear regression of log error, by scikit-learn.

    ln(100 - top1) = intercept + sum of feature weights + offset of the recipe + slope of the recipe * size
                     + offset of the backbone's shape + noise

Every weight has a normal prior with mean zero. Features are scaled by its standard deviation, so that one Bayesian
ridge fits all. The offset of a shape keeps many trainings of one shape from counting as many shapes. `python -m
t2tbuild.accuracy.fit` writes predictor.json, which the package ships.
"""

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
from sklearn.linear_model import BayesianRidge

from t2tbuild.accuracy.features import PRIOR_STD, features_of, shape_of
from t2tbuild.accuracy.predictor import FILE, Neighbour, Predictor
from t2tbuild.accuracy.published import IMAGENET, PublishedModel, published_models
from t2tbuild.files import atomic_write

RECIPE_STD, SLOPE_STD, SHAPE_STD = 0.085, 0.02, 0.03
"""Prior standard deviations of a recipe's offset, of its slope, and of a shape's offset, in log error."""
MIN_MODELS = 4
"""Accuracies are predicted for recipes with at least this many models."""


def imagenet_models() -> list[PublishedModel]:
    """Return the published models to fit: those trained on ImageNet-1k alone, with or without a teacher."""
    return [model for model in published_models() if model.recipe.data == IMAGENET]


def fit_predictor(models: Sequence[PublishedModel], min_models: int = MIN_MODELS) -> Predictor:
    """Fit a predictor to `models`. It predicts for recipes with at least `min_models` models."""
    rows = [_features(model) for model in models]
    names = list(dict.fromkeys(name for row in rows for name in row))
    scales = np.array([_scale(name) for name in names])
    scaled = np.array([[row.get(name, 0.0) for name in names] for row in rows]) * scales
    errors = np.log(100 - np.array([model.top1 for model in models]))
    ridge = BayesianRidge().fit(scaled, errors)
    prior = float(ridge.lambda_**-0.5)
    counts = Counter(model.recipe.name for model in models)
    kept = [index for index, name in enumerate(names) if _is_kept(name, counts, min_models)]
    covariance = ridge.sigma_ * np.outer(scales, scales)
    return Predictor(
        intercept=float(ridge.intercept_),
        noise=float(ridge.alpha_**-0.5),
        unknown_recipe=RECIPE_STD * prior,
        unknown_slope=SLOPE_STD * prior,
        unknown_shape=SHAPE_STD * prior,
        names=tuple(names[index] for index in kept),
        weights=tuple(float(weight) for weight in (ridge.coef_ * scales)[kept]),
        covariance=tuple(tuple(map(float, covariance[row, kept])) for row in kept),
        teachers=tuple(sorted({model.recipe.name for model in models if model.recipe.teacher})),
        published=tuple(_neighbour(model) for model in models),
    )


def _features(model: PublishedModel) -> dict[str, float]:
    shape, recipe = shape_of(model.model), model.recipe
    found = features_of(shape) | {"teacher": float(recipe.teacher is not None)}
    slope = {f"slope {recipe.name}": found["size"]}
    return found | {f"recipe {recipe.name}": 1.0} | slope | {f"shape {shape.key}": 1.0}


def _scale(name: str) -> float:
    kind = name.partition(" ")[0]
    return (
        PRIOR_STD[name] if name in PRIOR_STD else {"recipe": RECIPE_STD, "slope": SLOPE_STD, "shape": SHAPE_STD}[kind]
    )


def _is_kept(name: str, models: Counter[str], min_models: int) -> bool:
    """Whether a predictor needs a weight: those of recipes with few models are left out."""
    kind, _, recipe = name.partition(" ")
    return name in PRIOR_STD or kind == "shape" or models[recipe] >= min_models


def _neighbour(model: PublishedModel) -> Neighbour:
    shape = shape_of(model.model)
    return Neighbour(
        name=model.name,
        source=model.source,
        recipe=model.recipe.name,
        top1=model.top1,
        depth=shape.depth,
        width=round(shape.width, 1),
        mlp_ratio=round(shape.mlp_ratio, 3),
        tokens=shape.tokens,
        side=shape.side,
        tokenizer=shape.tokenizer,
        options=shape.options,
    )


def as_json(predictor: Predictor) -> str:
    """Return the text of predictor.json."""
    data: dict[str, Any] = {"fitted": f"{datetime.date.today()}, scikit-learn {sklearn.__version__}"}
    data |= predictor.to_json()
    return json.dumps(data, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    atomic_write(FILE, as_json(fit_predictor(imagenet_models())))
