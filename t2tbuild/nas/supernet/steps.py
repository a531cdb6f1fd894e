"""The steps on a trained supernet: members are evaluated, trained alone, and trained on.

Results that a file has are not measured again, and rows are in the order of the plan, so a search that was killed ends
with the same files. Each result of a training is written at once. Those with inherited weights, of which there are
thousands, are written every SAVE_EVERY seconds, at the end of a generation, and where it is interrupted.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from t2tbuild.nas.plan import Plan
from t2tbuild.nas.supernet.crew import Check, Crew
from t2tbuild.nas.supernet.evaluation import Measured, Task, Training
from t2tbuild.nas.supernet.inherited import count_evaluations, search_inherited
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.progress import Phase, PhaseProgress
from t2tbuild.nas.supernet.results import (
    ConfirmedResult,
    InheritedResult,
    Result,
    StandaloneResult,
    Start,
    read_results,
    write_results,
)
from t2tbuild.nas.supernet.standalone import choose_confirmations, choose_random

SAVE_EVERY = 3.0
STARTS: tuple[Start, ...] = ("inherited", "fresh")
Identity = TypeVar("Identity", bound=Hashable)
FromStart = tuple[str, Start]
"""The key of a member, and the weights that it is trained from."""
Known = Mapping[str, SupernetMember]
"""Members by key."""


@dataclass
class Steps:
    """The steps of one supernet. `check` may raise; `report` is called with progress.

    `latency_of` returns the latency of a member in seconds, None where it is not needed or not known.
    """

    planned: Plan
    folder: Path
    crew: Crew
    check: Check
    report: Callable[[PhaseProgress], None]
    latency_of: Callable[[SupernetMember], float | None] = lambda _member: None

    def evaluate_members(self, pool: Sequence[SupernetMember]) -> tuple[list[InheritedResult], Known]:
        """Search the members by their inherited loss. Returns the results, and all members by key."""
        total = count_evaluations(self.planned, pool)
        known = {one.key: one for one in read_results(self.folder, InheritedResult)}
        found: dict[str, SupernetMember] = {}
        started, before = time.monotonic(), len(known)

        def evaluate(chosen: Sequence[SupernetMember]) -> Mapping[str, InheritedResult]:
            found.update({one.key: one for one in chosen})
            missing = [one for one in chosen if one.key not in known]
            with self._saved(found, known) as save:
                for index, measured in self.crew.perform([Task(one.model) for one in missing], self.check):
                    known[missing[index].key] = self._inherited(missing[index], measured)
                    save()
                    here, seconds = len(known) - before, time.monotonic() - started
                    self.report(PhaseProgress("evaluation", len(known), total, seconds, here))
            return {key: known[key] for key in found}

        search_inherited(self.planned, pool, evaluate)
        return [known[key] for key in found], {one.key: one for one in pool} | found

    @contextmanager
    def _saved(
        self, found: Mapping[str, SupernetMember], known: Mapping[str, InheritedResult]
    ) -> Iterator[Callable[[], None]]:
        """Write the known results of found members at the end, also after an error.

        Gives a function to call after each result, which writes them every SAVE_EVERY seconds.
        """
        before, saved = len(known), time.monotonic()

        def write() -> None:
            write_results(self.folder, InheritedResult, [known[key] for key in found if key in known])

        def save() -> None:
            nonlocal saved
            if time.monotonic() - saved >= SAVE_EVERY:
                write()
                saved = time.monotonic()

        try:
            yield save
        finally:
            if len(known) > before:
                write()

    def train_alone(
        self, pool: Sequence[SupernetMember], inherited: Sequence[InheritedResult]
    ) -> list[StandaloneResult]:
        """Train random members alone, and evaluate them with inherited weights where that was not done."""
        chosen = choose_random(pool, self.planned.search)
        known = {one.key: one for one in inherited}
        missing = [one for one in chosen if one.key not in known]
        for index, measured in self.crew.perform([Task(one.model) for one in missing], self.check):
            known[missing[index].key] = self._inherited(missing[index], measured)

        def to_result(one: SupernetMember, found: Measured) -> StandaloneResult:
            backbone, before = one.model.backbone, known[one.key]
            return StandaloneResult(
                one.key,
                one.macs,
                one.params,
                backbone.num_blocks,
                backbone.embed_dim,
                before.loss,
                before.accuracy,
                found.loss,
                found.accuracy,
                found.seconds,
            )

        tasks = {one.key: Task(one.model, Training("fresh")) for one in chosen}
        members = {one.key: one for one in chosen}
        return self._measure(
            "validity", StandaloneResult, tasks, lambda one: one.key, lambda key, found: to_result(members[key], found)
        )

    def confirm(
        self, inherited: Sequence[InheritedResult], alone: Sequence[StandaloneResult], members: Known
    ) -> list[ConfirmedResult]:
        """Train the best and random members from both weights. What was trained alone is not trained again."""
        chosen = {one.key: one for one in choose_confirmations(self.planned.search, inherited, alone)}
        done: dict[FromStart, Measured] = {
            (one.key, "fresh"): Measured(one.loss, one.accuracy, one.seconds) for one in alone
        }
        tasks: dict[FromStart, Task] = {
            (key, start): Task(members[key].model, Training(start)) for key in chosen for start in STARTS
        }

        def to_result(identity: FromStart, found: Measured) -> ConfirmedResult:
            one = chosen[identity[0]]
            return ConfirmedResult(
                one.key, one.why, one.budget, identity[1], 0, found.loss, found.accuracy, found.seconds
            )

        def identity_of(one: ConfirmedResult) -> FromStart:
            return one.key, one.start

        return self._measure("confirmation", ConfirmedResult, tasks, identity_of, to_result, done=done)

    def _measure(
        self,
        phase: Phase,
        kind: type[Result],
        tasks: Mapping[Identity, Task],
        identity_of: Callable[[Result], Identity],
        to_result: Callable[[Identity, Measured], Result],
        done: Mapping[Identity, Measured] | None = None,
    ) -> list[Result]:
        """Return the results of tasks in their order. Those in the file, and those that are `done`, are not measured.

        The file is written after each.
        """
        known = {identity: to_result(identity, one) for identity, one in (done or {}).items() if identity in tasks}
        known |= {identity_of(one): one for one in read_results(self.folder, kind)}
        missing = [identity for identity in tasks if identity not in known]
        started = time.monotonic()
        for count, (index, found) in enumerate(self.crew.perform([tasks[one] for one in missing], self.check), start=1):
            known[missing[index]] = to_result(missing[index], found)
            write_results(self.folder, kind, [known[one] for one in tasks if one in known])
            seconds = time.monotonic() - started
            self.report(PhaseProgress(phase, len(tasks) - len(missing) + count, len(tasks), seconds, count))
        results = [known[one] for one in tasks]
        write_results(self.folder, kind, results)
        return results

    def _inherited(self, one: SupernetMember, found: Measured) -> InheritedResult:
        return InheritedResult(
            one.key, one.macs, one.params, self.latency_of(one), found.accuracy, found.loss, one.values
        )
