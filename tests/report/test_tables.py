"""The live table of a search, and the table of a model's cost."""

import io
from dataclasses import replace

from rich.console import Console

from t2tbuild import load_search_spec, load_spec, predict_cost
from t2tbuild.cli.search_progress import SearchProgress
from t2tbuild.nas import Record, State
from t2tbuild.nas.record import Rung
from t2tbuild.report.cost_table import cost_table
from t2tbuild.spec.with_changes import with_changes

BASE = load_spec("t2t_vit_14").model


def record(number: str, state: State, *losses: float) -> Record:
    rungs = tuple(Rung(steps, 0.2, loss, 2.0) for steps, loss in zip((40, 100, 200), losses, strict=False))
    return Record(number, state, BASE, params=21_545_550, macs=4_800_254_784, rungs=rungs)


def watch(terminal: bool, *records: Record, target: str = "data") -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=110, color_system=None)
    with SearchProgress(console, load_search_spec("deep_narrow", [f"search.target={target}"])) as progress:
        for one in records:
            progress.update(one)
    return screen.getvalue()


def test_the_live_table_shows_base_and_candidates_with_their_rungs() -> None:
    shown = watch(
        True,
        record("base", State.RUNNING),
        record("base", State.COMPLETED, 2.25, 1.352, 0.319),
        record("0", State.PRUNED, 2.1),
        record("1", State.RUNNING, 2.2, 1.4),
    )
    last = shown[shown.rindex("deep_narrow:") :]
    assert "1 of 8 candidates" in last
    assert "ETA" in last
    rows = {line.split("│")[1].strip(): line for line in last.splitlines() if line.count("│") > 5}
    assert list(rows) == ["base", "1", "0"]  # the base, then running candidates, then the others
    assert all(
        word in rows["base"] for word in ("14", "384", "P64 P64", "4.80G", "21.5M", "1.352", "0.319", "completed")
    )
    assert "running" in rows["1"]


def test_confirmation_runs_are_part_of_what_is_left() -> None:
    """They come after the last candidate, which had an ETA of 0 seconds."""
    screen = io.StringIO()
    spec = load_search_spec("deep_narrow", ["search.target=data", "search.confirm={best: 2, random: 0, seeds: 1}"])
    done = [replace(record(str(number), State.COMPLETED, 2.1, 1.4, 0.4), key=str(number)) for number in range(8)]
    with SearchProgress(Console(file=screen, width=200), spec) as progress:
        progress.update(replace(done[0], state=State.RUNNING))
        progress.counted_from -= 90  # seconds ago
        for one in [*done, replace(done[0], state=State.RUNNING, seed=1)]:
            progress.update(one)
    *_, before, last = screen.getvalue().splitlines()
    assert "8 of 8 candidates, 2 confirmation runs left, 0s, ETA 20s" in before
    assert "8 of 8 candidates, 2 confirmation runs left, 0s, ETA 20s" in last  # one of them is running


def test_where_accuracy_is_predicted_it_has_a_column_and_decides_the_order() -> None:
    small = with_changes(BASE, {"backbone": BASE.backbone.model_dump() | {"depth": 8}}, "in a test")
    worse = replace(record("0", State.COMPLETED, 2.0, 1.0, 0.1), model=small)
    shown = watch(True, worse, record("1", State.COMPLETED, 2.2, 1.4, 0.5), target="imagenet")
    last = shown[shown.rindex("deep_narrow:") :]
    rows = {line.split("│")[1].strip(): line for line in last.splitlines() if line.count("│") > 5}
    assert list(rows) == ["1", "0"]  # the better prediction, although the other has the lower loss
    assert "81.7%" in rows["1"]


def test_off_a_terminal_each_candidate_is_one_plain_line() -> None:
    shown = watch(False, record("base", State.COMPLETED, 2.25, 1.352, 0.319), record("0", State.PRUNED, 2.1))
    first, second = shown.splitlines()
    assert "@200 20.0%, loss 0.32" in first
    assert second.split("  [")[0].strip() == "0  depth 14 width 384  4.80G MACs  @40 20.0%, loss 2.10  pruned"


def test_figures_of_the_released_code_are_not_called_the_papers() -> None:
    screen = io.StringIO()
    spec = load_spec("t2t_vit_10")
    Console(file=screen, width=110).print(cost_table(spec, predict_cost(spec.model)))
    assert "released code" in screen.getvalue()
    assert "paper" not in screen.getvalue()
