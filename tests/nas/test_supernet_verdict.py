"""What decides whether a search follows its supernet, and what inheritance was worth."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t2tbuild.cli.supernet_status import supernet_line
from t2tbuild.errors import TrainingError
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.store.meta import SUPERNET as SUPERNET_META
from t2tbuild.nas.supernet import phase
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.results import ConfirmedResult, StandaloneResult
from t2tbuild.nas.supernet.standalone import choose_random
from t2tbuild.nas.supernet.verdict import decide, measure_validity, measure_worth
from t2tbuild.spec.supernet import SupernetSpec
from tests.nas.supernets import with_supernet


def alone_results(
    members: Sequence[SupernetMember], quality: Callable[[int, SupernetMember], float]
) -> list[StandaloneResult]:
    """Return results of trainings alone by `quality`; inherited ones are a little worse, in the same order."""
    found = []
    for index, one in enumerate(members):
        value, backbone = quality(index, one), one.model.backbone
        shape = (backbone.num_blocks, backbone.embed_dim)
        found.append(
            StandaloneResult(one.key, one.macs, one.params, *shape, value + 0.1, 1 - value, value, 1.1 - value, 1.0)
        )
    return found


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_a_supernet_that_ranks_members_as_trainings_do_decides(
    planned: Plan, members: Sequence[SupernetMember], metric: str
) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    results = alone_results(chosen, lambda index, _one: 0.1 + 0.7 * (index * 7 % 24) / 24)
    validity = measure_validity(results, [one.model for one in chosen], metric)
    assert validity is not None
    assert validity.inherited.tau is not None
    assert validity.inherited.tau.value == pytest.approx(1.0)
    verdict = decide(validity, None, "data", "tpe")
    assert verdict.decides
    assert not decide(validity, None, "imagenet", "tpe").decides
    assert not decide(validity, None, "data", "random").decides


@pytest.mark.parametrize("baseline", ["macs", "embed_dim"])
def test_a_supernet_that_ranks_no_better_than_a_baseline_decides_nothing(
    planned: Plan, members: Sequence[SupernetMember], baseline: str
) -> None:
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    size = {"macs": lambda one: one.macs / 1e6, "embed_dim": lambda one: one.model.backbone.embed_dim}[baseline]
    results = alone_results(chosen, lambda _index, one: 1 / size(one))
    verdict = decide(measure_validity(results, [one.model for one in chosen], "loss"), None, "data", "tpe")
    assert not verdict.decides
    assert baseline in verdict.reason


def test_a_baseline_of_the_opposite_sign_ranks_as_well(planned: Plan, members: Sequence[SupernetMember]) -> None:
    """The loss grows with the MACs, so the smallest members are the best: MACs say it too."""
    chosen = choose_random(members, with_supernet(planned, validity=24).search)
    results = alone_results(chosen, lambda _index, one: one.macs / 1e7)
    verdict = decide(measure_validity(results, [one.model for one in chosen], "loss"), None, "data", "tpe")
    assert not verdict.decides
    assert verdict.reason == "macs alone ranks members as well"
    assert "and macs alone -1.00" in verdict.sentence


def test_a_supernet_without_evidence_decides_nothing(members: Sequence[SupernetMember]) -> None:
    assert not decide(None, None, "data", "tpe").decides
    results = alone_results(members[:4], lambda index, _one: 0.1 * index)
    assert measure_validity(results, [one.model for one in members[:4]], "loss") is None
    failed = [replace(one, loss=math.nan) for one in alone_results(members[:8], lambda index, _one: 0.1 * index)]
    assert measure_validity(failed, [one.model for one in members[:8]], "loss") is None
    rng = random.Random(1)
    noise = [replace(one, inherited_loss=rng.random()) for one in alone_results(members[:24], lambda index, _: index)]
    assert not decide(measure_validity(noise, [one.model for one in members[:24]], "loss"), None, "data", "tpe").decides


def test_a_supernet_whose_training_fails_decides_nothing(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise TrainingError("the loss is nan at step 1")

    monkeypatch.setattr(phase, "pool", lambda _planned: ())
    monkeypatch.setattr(phase, "SupernetTrainer", fail)
    stored: dict[str, Any] = {}
    store = SimpleNamespace(get_meta=stored.get, set_meta=stored.__setitem__, keep_meta=stored.__setitem__)
    evaluator = SimpleNamespace(device=torch.device("cpu"), data=None)
    given: Any = (planned, tmp_path, evaluator, store, lambda: None, lambda _progress: None, math.inf)
    phase.SupernetPhase(*given).run()
    sentence = "Supernet: it decided nothing: its training failed: the loss is nan at step 1."
    assert stored[SUPERNET_META] == {"decides": False, "sentence": sentence, "proposals": []}
    assert supernet_line(tmp_path, SupernetSpec(steps=3)) == sentence
    monkeypatch.undo()
    phase.SupernetPhase(*given).run()  # it is not trained again


def test_what_inheritance_was_worth() -> None:
    rows = [(key, start) for key in "abcd" for start in ("inherited", "fresh")]
    results = [
        ConfirmedResult(
            key,
            "best" if key in "ab" else "random",
            0,
            start,
            0,
            0.5,
            0.5 + 0.1 * (start == "inherited") + 0.01 * index,
            1.0,
        )  # type: ignore[arg-type]
        for index, (key, start) in enumerate(rows)
    ]
    worth = measure_worth(results, "accuracy")
    assert worth is not None
    assert worth.members == 4
    assert worth.start is not None
    assert worth.start.value == pytest.approx(0.09)
    assert worth.best is not None
    assert worth.best.value == pytest.approx(-0.04)
    assert measure_worth([one for one in results if one.start == "fresh"], "accuracy") is None
