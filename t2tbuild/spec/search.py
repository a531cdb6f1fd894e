"""A search spec: a base, the space over fields of it, a budget, a ladder of judgements, and for how long."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import Listed, Node, Seconds, Violation, lint, rule, unit
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.data import Share
from t2tbuild.spec.model import NAME_PATTERN
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.space import SpaceField, broken_space

ScoreName = Literal["params", "macs", "depth", "naswot", "weight_norm", "snip", "grad_norm", "synflow", "dss"]
Objective = Literal["accuracy", "macs", "params", "activations", "latency"]
Sampler = Literal["predicted", "tpe", "random", "nsga2", "gp", "brute_force"]
Target = Literal["auto", "imagenet", "data"]


class Scores(Node):
    """Cheap scores of untrained candidates, on one real batch: which of several drawn candidates is trained first."""

    names: Annotated[tuple[ScoreName, ...], Listed] = Field(
        default=("naswot", "weight_norm", "snip", "grad_norm", "synflow", "dss"),
        examples=[["naswot", "snip"]],
    )
    """The scores that are computed for each candidate that is trained, and reported beside what it then showed."""
    pool: int = Field(default=4, ge=1, le=1000, examples=[8], json_schema_extra=unit("candidates"))
    """Candidates that are drawn for each one that is trained: the one of the best predicted accuracy is, where there is
    a prediction, else the one that a zero-cost proxy ranks best which `threshold` admits. 1 draws no others, and so do
    several objectives."""
    first: int = Field(default=8, ge=0, le=100_000, examples=[8], json_schema_extra=unit("candidates"))
    """Without effect: zero-cost proxies chose so many of the first candidates before their validity was measured."""
    threshold: Share | None = Field(default=0.3, examples=[0.3])
    """Where nothing is predicted, candidates are chosen from the pool by one zero-cost proxy if, among the candidates
    of this very search, the lower end of the 95% interval of its Kendall rank correlation with the results of their
    trainings lies above this; null never does."""

    @rule
    def _no_score_twice(self) -> Iterator[Violation]:
        for index, name in enumerate(self.names):
            if name in self.names[:index]:
                yield Violation(("names", index), f"names lists {name} twice", "remove one of the two")

    @lint
    def _first_has_no_effect(self) -> Iterator[Violation]:
        if self.first != type(self).model_fields["first"].default:
            message = "first has no effect any more: zero-cost proxies choose only where they were shown to be valid"
            yield Violation("first", message, "leave it out")


class Confirm(Node):
    """The last rung of the ladder: the same candidates again, with new seeds."""

    best: int = Field(default=2, ge=1, le=1000, examples=[2], json_schema_extra=unit("candidates"))
    """The best candidates that are trained again."""
    random: int = Field(default=1, ge=0, le=1000, examples=[1], json_schema_extra=unit("candidates"))
    """The best of those drawn at random, and so many less one of the others, trained again beside them."""
    seeds: int = Field(default=3, ge=1, le=100, examples=[3])
    """Seeds of each."""
    width: Literal["proxy", "full"] = "proxy"
    """What is trained: what the proxy trained, or the candidates themselves, which then tells whether twins rank as
    they do."""


class Search(Node):
    """What is searched, within what, how, and for how long."""

    name: str = Field(default="search", pattern=NAME_PATTERN, examples=["deep_narrow"])
    """What the search is called in tables, folder names and the storage: letters, digits, '.', '_' and '-', at most
    64."""
    base: str = Field(examples=["t2t_vit_14"])
    """Name of the model spec that candidates start from, or its path seen from this file; it is the yardstick, and
    the first that is trained, if it fits."""
    enqueue: Annotated[tuple[str, ...], Listed] = Field(default=(), max_length=1000, examples=[["t2t_vit_t_14"]])
    """Names or paths of model specs that are tried before candidates are drawn."""
    budget: Budget = Field(examples=[{"macs": "5G"}])
    """What a candidate may cost."""
    space: SpaceField = Field(min_length=1, examples=[{"backbone.depth": {"fill": [0.7, 1.0]}}])
    """Dotted fields of the base's model and what each may be. `*` stands for every stage that has the field, each on
    its own. num_heads follows embed_dim at the base's head_dim unless it is in the space itself."""
    objectives: Annotated[tuple[Objective, ...], Listed] = Field(
        default=("accuracy",), min_length=1, max_length=4, examples=[["accuracy", "macs"]]
    )
    """What is sought: high accuracy, and low cost if there are more. With several there is a front, no single best."""
    target: Target = "auto"
    """What the winner should be best at. imagenet: candidates are ranked by the ImageNet top-1 that is predicted from
    published trainings, updated by proxies whose validity was measured. data: they are ranked by their trainings on the
    proxy's data, and the prediction chooses which are trained. auto: imagenet where the proxy trains on digits or
    noise, and the base is near published models; data elsewhere."""
    sampler: Sampler = "predicted"
    """Which candidates are tried. predicted: those of the best predicted accuracy, another backbone each time; for
    target data, with several objectives, and where nothing is predicted, as tpe. tpe: a tree-structured Parzen
    estimator. random: at random. nsga2: a genetic algorithm. gp: a Gaussian process. brute_force: every member in
    turn."""
    baseline: Share = Field(default=0.5, lt=1, examples=[0.5])
    """Share of the candidates that chance draws instead of the sampler, so that the same search tells what random
    search finds in as many seconds of training. The sampler learns from them too."""
    scores: Scores = Field(default=Scores(), examples=[{"names": ["naswot", "snip"]}])
    """Cheap scores of untrained candidates."""
    proxy: Proxy = Field(default=Proxy(), examples=[{"rungs": [40, 100, 200]}])
    """The short training that ranks candidates."""
    confirm: Confirm | None = Field(default=Confirm(), examples=[{"best": 2, "random": 1, "seeds": 3}])
    """Trainings that tell whether what was found is more than luck; null leaves them out."""
    trials: int = Field(default=32, ge=1, le=1_000_000, examples=[12], json_schema_extra=unit("candidates"))
    """Candidates to train, the base not counted."""
    timeout: Seconds | None = Field(default=None, examples=["5m"], json_schema_extra=unit("seconds"))
    """Stop after this long, with what has been found by then; a part of it is kept for `confirm`. Left out, only
    trials ends the search."""
    heartbeat: Seconds = Field(default=60.0, examples=["60s"], json_schema_extra=unit("seconds"))
    """How often a worker tells the storage that it lives; one that is silent for twice as long is taken for dead, and
    its training is given to another."""
    retries: int = Field(default=3, ge=0, le=100, examples=[3])
    """How often a candidate whose worker died is tried again."""
    seed: int = Field(default=0, ge=0, lt=2**32, examples=[0])
    """Seed of candidates, weights and order of samples."""

    @rule
    def _space_holds_together(self) -> Iterator[Violation]:
        yield from broken_space(self.space)

    @rule
    def _accuracy_is_sought(self) -> Iterator[Violation]:
        if "accuracy" not in self.objectives:
            yield Violation("objectives", "a search without accuracy needs no training", "add accuracy")
        for index, name in enumerate(self.objectives):
            if name in self.objectives[:index]:
                yield Violation(("objectives", index), f"objectives lists {name} twice", "remove one of the two")

    @lint
    def _several_objectives_suit_the_sampler(self) -> Iterator[Violation]:
        if self.sampler == "gp" and len(self.objectives) > 1:
            yield Violation("sampler", "a Gaussian process is slow with several objectives", "write tpe or nsga2")
