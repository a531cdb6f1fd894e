"""The latency limit of a budget: a time, or how it is measured."""

import pytest

from t2tbuild import load_search_spec
from t2tbuild.errors import SpecError
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.latency import LatencyLimit


@pytest.mark.parametrize(
    ("written", "limit", "summary"),
    [
        ("10ms", LatencyLimit(max=0.01), "10ms latency"),
        (0.02, LatencyLimit(max=0.02), "20ms latency"),
        (
            {"max": "10ms", "runtime": "onnxruntime", "threads": 1},
            LatencyLimit(max=0.01, runtime="onnxruntime", threads=1),
            "10ms latency (onnxruntime, 1 thread, batch 1)",
        ),
        (
            {"max": "5ms", "command": "./measure.sh phone"},
            LatencyLimit(max=0.005, command="./measure.sh phone"),
            "5ms latency (./measure.sh phone)",
        ),
    ],
)
def test_a_limit_is_a_time_or_a_mapping(written: object, limit: LatencyLimit, summary: str) -> None:
    budget = Budget.model_validate({"latency": written})
    assert budget.latency == limit
    assert budget.summary == summary
    assert Budget.model_validate(budget.model_dump()) == budget


def test_a_time_alone_is_written_as_a_time() -> None:
    assert Budget.model_validate({"latency": {"max": "10ms"}}).model_dump() == {"latency": "10ms"}


def test_an_option_changes_the_limit_and_keeps_how_it_is_measured() -> None:
    limit = "search.budget.latency={max: 10ms, runtime: onnxruntime, threads: 2}"
    changed = load_search_spec("lite", [limit, "search.budget.latency.max=3ms"]).search.budget.latency
    assert changed == LatencyLimit(max=0.003, runtime="onnxruntime", threads=2)
    short = load_search_spec("lite", ["search.budget.latency=10ms", "search.budget.latency.threads=2"])
    assert short.search.budget.latency == LatencyLimit(max=0.01, threads=2)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("10 ms", "'10 ms' is not a time (write 10ms)"),
        ("{threads: 1}", "missing key 'max'"),
        ("{max: 10ms, runtime: onnx}", "must be one of 'torch', 'onnxruntime', got 'onnx'"),
        ("{max: 10ms, command: ./m.sh, threads: 1}", "threads has no effect beside command"),
        ("{max: 10ms, command: ./m.sh, runtime: onnxruntime}", "runtime has no effect beside command"),
        ("{max: 10ms, command: ' '}", "is empty (write for example ./measure.sh)"),
        ('{max: 10ms, command: "sh \'x"}', "cannot be split into words: No closing quotation"),
    ],
)
def test_a_wrong_limit_has_one_message(written: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_search_spec("lite", [f"search.budget.latency={written}"])
    assert message in str(caught.value)
    assert len(caught.value.diagnostics) == 1
