"""Peak memory, compared with tensors that can be counted by hand."""

import gc
import subprocess
import sys
from collections.abc import Callable
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from t2tbuild import build_model
from t2tbuild.bench.peak_memory import allocations, peak_memory, storage_bytes
from t2tbuild.spec import ModelSpec

CPU = torch.device("cpu")
MB = 10**6


def megabytes(count: int) -> Tensor:
    return torch.empty(count * MB, dtype=torch.uint8)


def two_at_once() -> None:
    first = megabytes(3)
    second = megabytes(4)
    del first, second
    megabytes(5)


def one_after_the_other() -> None:
    megabytes(3)
    megabytes(4)


def its_result() -> Tensor:
    return megabytes(6)


def a_view() -> Tensor:
    whole = megabytes(2)
    return whole[MB:].view(1000, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "expected"), [(two_at_once, 7), (one_after_the_other, 4), (its_result, 6), (a_view, 2), (lambda: None, 0)]
)
def test_the_peak_is_the_largest_sum_of_live_tensors(step: Callable[[], object], expected: int) -> None:
    assert peak_memory(step, CPU) == expected * MB
    assert peak_memory(step, CPU) == expected * MB  # an earlier call has no effect


def test_tensors_that_a_step_leaves_alive_count_once() -> None:
    kept: dict[str, Tensor] = {}

    def step() -> None:
        if not kept:
            kept["state"] = megabytes(2)
        megabytes(3)

    assert peak_memory(step, CPU) == 5 * MB
    assert peak_memory(step, CPU) == 3 * MB  # the state existed before this call


def test_tensors_of_the_last_run_that_a_step_frees_are_seen() -> None:
    """Such as gradients that zero_grad frees at the start of the next step."""
    kept: list[Tensor] = []

    def step() -> None:
        kept.clear()
        kept.append(megabytes(2))
        megabytes(3)

    assert peak_memory(step, CPU) == 5 * MB


def test_freeing_an_older_tensor_makes_the_peak_too_high_at_most() -> None:
    older = [megabytes(50)]

    def step() -> None:
        older.clear()
        megabytes(3)

    assert peak_memory(step, CPU) == 3 * MB


def test_garbage_of_an_earlier_measurement_is_not_counted() -> None:
    """Collected during the step, tensors of an earlier measurement would make the peak too low, even negative."""

    def leave_garbage() -> None:
        cycle: list[object] = [megabytes(20)]
        cycle.append(cycle)

    def step() -> None:
        gc.collect()
        megabytes(3)

    gc.disable()
    try:
        allocations(leave_garbage)
        assert peak_memory(step, CPU) == 3 * MB
    finally:
        gc.enable()


def test_memory_of_other_threads_is_not_mixed_in() -> None:
    def step() -> None:
        thread = Thread(target=megabytes, args=(50,))
        thread.start()
        thread.join()
        megabytes(3)

    assert peak_memory(step, CPU) == 3 * MB


def test_a_linear_layer_by_hand() -> None:
    """Forward saves the input; backward has the gradients of the loss, of the output and of the weights."""
    linear = nn.Linear(1000, 500, bias=False)
    x_BC = torch.zeros(200, 1000)

    def step() -> None:
        out_BD = linear(x_BC)
        out_BD.backward(torch.ones_like(out_BD))
        linear.weight.grad = None

    output, weights = 4 * 200 * 500, 4 * 1000 * 500
    assert peak_memory(step, CPU) == 2 * output + weights


def test_the_autograd_engine_and_the_optimizer_are_seen() -> None:
    weight = torch.zeros(MB, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], foreach=False)

    def step() -> None:
        weight.sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    tensors = 2 + 1 + 2  # the moments, the gradient, and the root of the second moment before and after its division
    assert 0 <= peak_memory(step, CPU) - tensors * 4 * MB < 100
    assert storage_bytes(value for state in optimizer.state.values() for value in state.values()) == 4 * 2 * MB + 4


def test_a_larger_batch_takes_more(small: ModelSpec) -> None:
    model = build_model(small).eval()

    def peak(batch: int) -> int:
        images = torch.zeros(batch, *model.input_size)
        with torch.inference_mode():
            return peak_memory(lambda: model(images), CPU)

    assert 1.9 * peak(4) < peak(8) < 2.1 * peak(4)


def test_bytes_of_tensors_that_share_storage_count_once() -> None:
    table = torch.zeros(10, 10)
    assert storage_bytes([table, table[2:], table.T, torch.zeros(3, dtype=torch.bfloat16)]) == 4 * 100 + 2 * 3


def test_the_profiler_prints_nothing() -> None:
    code = (
        "import torch\nfrom t2tbuild.bench.peak_memory import peak_memory\n"
        "print(peak_memory(lambda: torch.ones(9), torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "36\n", "")


def test_a_step_that_fails_is_not_hidden() -> None:
    def step() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        peak_memory(step, CPU)
    assert peak_memory(its_result, CPU) == 6 * MB


def test_other_devices_are_not_supported() -> None:
    with pytest.raises(NotImplementedError, match="peak memory on meta"):
        peak_memory(lambda: None, torch.device("meta"))
