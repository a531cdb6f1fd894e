import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2tbuild.spec.budget import Bounds, Budget, ByteBounds
from t2tbuild.spec.units import (
    UnitError,
    format_count,
    format_seconds,
    parse_amount,
    parse_bytes,
    parse_count,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5G", 5_000_000_000),
        ("5e9", 5_000_000_000),
        ("4.8G", 4_800_000_000),
        ("500M", 500_000_000),
        ("21.5M", 21_500_000),
        (5e9, 5_000_000_000),
        (1, 1),
    ],
)
def test_counts(text: object, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5GB", "write 5G"),
        ("5 G", "write 5G"),
        ("5g", "write 5G"),
        ("5GMac", "write 5G"),
        ("5GFLOPs", "write 5G, or 2.5G"),
        ("5B", "write 5G"),
        ("-5G", "above zero"),
        ("0", "above zero"),
        ("nan", "write for example 5G"),
        ("inf", "write for example 5G"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ("1e400", "below 1e18"),
        ("0.5", "whole number"),
        ("", "write for example 5G"),
        (True, "got true"),
        (None, "got nothing"),
    ],
)
def test_an_invalid_count_has_a_hint(text: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("150MB", 150_000_000),
        ("1.5 GB", 1_500_000_000),
        ("150MiB", 150 * 2**20),
        ("64kB", 64_000),
        ("0.5 KiB", 512),
        ("1GiB", 2**30),
        ("150M", 150_000_000),
        (150_000_000, 150_000_000),
    ],
)
def test_bytes(text: object, number: int) -> None:
    assert parse_bytes(text) == number
    assert Budget.model_validate({"activations": text}).activations == ByteBounds(max=number)
    assert Budget(activations=Bounds(max=number)).activations == ByteBounds(max=number)
    within = Budget.model_validate({"activations": {"max": text, "min": 1}})
    assert Budget.model_validate(within.model_dump()) == within


@pytest.mark.parametrize("field", ["macs", "params"])
def test_only_activations_are_in_bytes(field: str) -> None:
    with pytest.raises(ValueError, match=r"'150MB' reads as bytes.*"):
        Budget.model_validate({field: "150MB"})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("150mb", "write 150MB"),
        ("150 mib", "write 150MiB"),
        ("5 gbytes", "write 5GB"),
        ("7KB", "write 7kB"),
        ("150  MB", "write 150MB"),
        ("7B", "write 7"),
        ("150m", "write 150M"),
        ("0.1kiB", "write 0.1KiB"),
        ("0.1KiB", "whole number"),
        ("0MB", "above zero"),
        ("1e12GB", "below 1e18"),
        ("a lot", "write for example 150MB"),
        (True, "got true"),
        ("9" * 70 + "MB", "write for example 150MB"),
    ],
)
def test_an_invalid_number_of_bytes_has_a_hint(text: object, hint: str) -> None:
    with pytest.raises(UnitError, match=hint):
        parse_bytes(text)


@given(st.integers(1, 10**15))
def test_counts_round_trip(number: int) -> None:
    assert parse_count(format_count(number)) == number


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("24G", 24 * 10**9),
        ("24GB", 24 * 10**9),
        ("24 GiB", 24 * 2**30),
        ("80gib", 80 * 2**30),
        ("312TFLOPS", 312 * 10**12),
        ("1.5TB/s", 1_500_000_000_000),
        ("1e3", 1000),
        ("1E", 10**18),
        (" 7 ", 7),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0.5", "-1G", "G", "24Gb it", "1e22", "9" * 100, "5 minutes"])
def test_an_invalid_amount_is_an_error(text: str) -> None:
    with pytest.raises(UnitError, match="amount"):
        parse_amount(text)


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90s", 90), ("2h", 7200), ("1.5m", 90), (7, 7)])
def test_times(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    assert parse_seconds(format_seconds(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        *((text, "write for example 5m") for text in ("-1s", "0", "nan", "", None, True, float("inf"), "0 minutes")),
        ("5 minutes", "write 5m"),
        ("2 days", "write 48h"),
        ("1.5H", "write 1.5h"),
    ],
)
def test_an_invalid_time_has_a_hint(text: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_seconds(text)
