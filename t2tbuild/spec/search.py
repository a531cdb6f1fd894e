"""The search section of a search spec: a base, a space over its fields, a budget, and how candidates are evaluated."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import ListAsTuple, Node, Seconds, Violation, lint, rule, unit
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.data import Share
from t2tbuild.spec.model import NAME_PATTERN
from t2tbuild.spec.proxy import Proxy, ProxyField
from t2tbuild.spec.renamed import RenamedFields
from t2tbuild.spec.space import SpaceField, check_space
from t2tbuild.spec.supernet import SupernetSpec, check_supernet

EVALUATOR_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

ZeroCostName = Literal["params", "macs", "depth", "naswot", "weight_norm", "snip", "grad_norm", "synflow", "dss"]
Objective = Literal["accuracy", "macs", "params", "activations", "latency"]
Sampler = Literal["predicted", "tpe", "random", "nsga2", "gp", "brute_force"]
Target = Literal["auto", "imagenet", "data"]


class ZeroCostProxies(Node):
    """Zero-cost proxies of untrained candidates, computed on one real batch."""

    names: Annotated[tuple[ZeroCostName, ...], ListAsTuple] = Field(
        default=("naswot", "weight_norm", "snip", "grad_norm", "synflow", "dss"),
        examples=[["naswot", "snip"]],
    )
    """The proxies that are computed for each trained candidate and reported beside its training result."""
    pool: int = Field(default=4, ge=1, le=1000, examples=[8], json_schema_extra=unit("candidates"))
    """Candidates that are drawn for each one that is trained. Where accuracy is predicted, the candidate with the best
    prediction is trained; otherwise the one that is ranked best by a zero-cost proxy that meets `threshold`. With 1, or
    with several objectives, only one candidate is drawn."""
    first: int = Field(default=8, ge=0, le=100_000, examples=[8], json_schema_extra=unit("candidates"))
    """Has no effect. Earlier versions chose this many of the first candidates by zero-cost proxies."""
    threshold: Share | None = Field(default=0.3, examples=[0.3])
    """Where accuracy is not predicted, a zero-cost proxy chooses candidates from the pool if its Kendall rank
    correlation with the training results of this search is above this, at the lower end of the 95% interval. null:
    never."""

    @rule
    def _unique_names(self) -> Iterator[Violation]:
        for index, name in enumerate(self.names):
            if name in self.names[:index]:
                yield Violation(("names", index), f"names lists {name} twice", "remove one of the two")

    @lint
    def _first_has_no_effect(self) -> Iterator[Violation]:
        if self.first != type(self).model_fields["first"].default:
            message = "first has no effect: zero-cost proxies choose candidates only where they are valid"
            yield Violation("first", message, "remove it")


class Confirm(Node):
    """Confirmation runs: some candidates are retrained with new seeds at the end of the search."""

    best: int = Field(default=2, ge=1, le=1000, examples=[2], json_schema_extra=unit("candidates"))
    """How many of the best candidates are retrained."""
    random: int = Field(default=1, ge=0, le=1000, examples=[1], json_schema_extra=unit("candidates"))
    """How many candidates sampled at random are retrained: the best one, and others of them chosen at random."""
    seeds: int = Field(default=3, ge=1, le=100, examples=[3])
    """Seeds that each is retrained with."""
    width: Literal["proxy", "full"] = "proxy"
    """Width of the retrained models. proxy: as the proxy trained them. full: the candidates themselves, which shows
    whether narrow proxies rank as the candidates do."""


class Search(RenamedFields):
    """What is searched, within which budget, how, and for how long."""

    name: str = Field(default="search", pattern=NAME_PATTERN, examples=["deep_narrow"])
    """Name of the search in tables, folder names and the storage: letters, digits, '.', '_' and '-', at most 64."""
    base: str = Field(examples=["t2t_vit_14"])
    """Model spec that candidates start from: a shipped name, or a path relative to this file. Candidates are compared
    with it. It is trained first; one over the budget is scaled into it."""
    enqueue: Annotated[tuple[str, ...], ListAsTuple] = Field(default=(), max_length=1000, examples=[["t2t_vit_t_14"]])
    """Names or paths of model specs that are trained before candidates are drawn."""
    budget: Budget = Field(examples=[{"macs": "5G"}])
    """Limits on the cost of a candidate."""
    space: SpaceField = Field(min_length=1, examples=[{"backbone.depth": {"fill": [0.7, 1.0]}}])
    """Dotted fields of the base's model and the values of each. `*` means every stage that has the field; each stage
    has a value of its own. num_heads follows embed_dim at the base's head_dim unless it is in the space itself."""
    objectives: Annotated[tuple[Objective, ...], ListAsTuple] = Field(
        default=("accuracy",), min_length=1, max_length=4, examples=[["accuracy", "macs"]]
    )
    """Objectives: high accuracy, and low values of the others. With several, the result is a Pareto front."""
    target: Target = "auto"
    """What candidates are ranked by. imagenet: the ImageNet top-1 that is predicted from published trainings, updated
    by proxies whose validity was measured. data: their trainings on the proxy's data; the prediction chooses which
    candidates are trained. auto: imagenet if the proxy trains on digits or noise and the base is near published models,
    otherwise data."""
    sampler: Sampler = "predicted"
    """How candidates are chosen. predicted: those of the best predicted accuracy, with a different backbone each time;
    same as tpe for target data, for several objectives, and where accuracy is not predicted. tpe: a tree-structured
    Parzen estimator. random: at random. nsga2: a genetic algorithm. gp: a Gaussian process. brute_force: every member
    of the space in turn."""
    random_fraction: Share = Field(default=0.5, lt=1, examples=[0.5])
    """Fraction of the candidates that are sampled at random, for an equal-compute comparison with random search. The
    sampler learns from them too."""
    zero_cost: ZeroCostProxies = Field(default=ZeroCostProxies(), examples=[{"names": ["naswot", "snip"]}])
    """Zero-cost proxies of untrained candidates."""
    proxy: ProxyField = Field(default=Proxy(), examples=[{"rungs": [40, 100, 200]}])
    """The short training that ranks candidates, or a preset of it: quick, standard or thorough."""
    supernet: SupernetSpec | None = Field(default=None, examples=[{"epochs": 20}])
    """One training whose weights all members share; null for none. Its best members are the candidates where the rank
    correlation of inherited with stand-alone losses is shown on this data."""
    confirm: Confirm | None = Field(default=Confirm(), examples=[{"best": 2, "random": 1, "seeds": 3}])
    """Confirmation runs, which show whether the gain is larger than seed noise; null for none."""
    trials: int = Field(default=32, ge=1, le=1_000_000, examples=[12], json_schema_extra=unit("candidates"))
    """Candidates to train, without the base."""
    patience: int | None = Field(default=16, ge=1, le=1_000_000, examples=[16], json_schema_extra=unit("candidates"))
    """The search stops when this many candidates in a row did not improve on the best before them by more than the seed
    noise; null: never. With several objectives it has no effect."""
    evaluator: str | None = Field(default=None, pattern=EVALUATOR_PATTERN, examples=["my_module:evaluate"])
    """A Python function of your own that evaluates candidates in place of proxy training, as module:function. It is
    called with a candidate and a number of training steps, and returns a validation accuracy or a mapping of
    measurements. The target is then data."""
    timeout: Seconds | None = Field(default=None, examples=["5m"], json_schema_extra=unit("seconds"))
    """Longest time of the search; a part of it is reserved for `confirm`. Left out, only `trials` ends the search."""
    heartbeat: Seconds = Field(default=60.0, examples=["60s"], json_schema_extra=unit("seconds"))
    """Time between two heartbeats of a worker. A trial without a heartbeat for twice as long is stale, and another
    worker takes it over."""
    retries: int = Field(default=3, ge=0, le=100, examples=[3])
    """How often a stale trial is retried."""
    seed: int = Field(default=0, ge=0, lt=2**32, examples=[0])
    """Seed of candidates, weights and the order of samples."""

    @rule
    def _valid_space(self) -> Iterator[Violation]:
        yield from check_space(self.space)

    @rule
    def _valid_supernet(self) -> Iterator[Violation]:
        yield from check_supernet(self.supernet, self.budget, self.evaluator)

    @rule
    def _accuracy_is_an_objective(self) -> Iterator[Violation]:
        if "accuracy" not in self.objectives:
            yield Violation("objectives", "a search without accuracy needs no training", "add accuracy")
        for index, name in enumerate(self.objectives):
            if name in self.objectives[:index]:
                yield Violation(("objectives", index), f"objectives lists {name} twice", "remove one of the two")

    @lint
    def _warm_up_ends(self) -> Iterator[Violation]:
        warmup, last = self.proxy.warmup_steps, self.proxy.rungs[-1]
        if warmup >= last and self.evaluator is None:  # what a step is in your own evaluator is up to you
            message = f"the warm-up of {warmup} steps never ends: the last rung is {last}"
            yield Violation(("proxy", "warmup_steps"), message, f"write a search.proxy.warmup_steps below {last}")

    @lint
    def _several_objectives_suit_the_sampler(self) -> Iterator[Violation]:
        if self.sampler == "gp" and len(self.objectives) > 1:
            yield Violation("sampler", "a Gaussian process is slow with several objectives", "write tpe or nsga2")
