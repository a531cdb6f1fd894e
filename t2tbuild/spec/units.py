"""Counts as people write them: 5G, 4.8G, 500M, 5e9; and times: 5m, 90s."""

import math
import re
from decimal import Decimal

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_COUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)([KMGT]?)")
_NEAR_COUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*([kKmMgGtTbB])\s*([a-zA-Z/]*)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"(\d+\.?\d*|\.\d+)([smh]?)")


def parse_count(value: object) -> int:
    """Read a count: 5G, 4.8G, 500M, 21.5M, 5e9, 5000000000.

    Raises ValueError with what to write instead when `value` is no count, not finite, or not above zero.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a count such as 5G, 500M or 5e9 is wanted, got {value!r}")
    if isinstance(value, str):
        number = _parse_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a count must be finite, got {value}; write for example 5G")
    else:
        number = Decimal(str(value))
    if number <= 0:
        raise ValueError(f"a count must be above zero, got {value}; write for example 5G")
    if number >= Decimal(10) ** 18:
        raise ValueError(f"a count must be below 1e18, got {value}; write for example 5G")
    if number != int(number):
        raise ValueError(f"a count must be a whole number, got {value}; did you mean {number:f}G or {number:f}M?")
    return int(number)


def _parse_text(text: str) -> Decimal:
    match = _COUNT.fullmatch(text)
    if match:
        return Decimal(match[1]) * _SCALE[match[2]]
    near = _NEAR_COUNT.fullmatch(text.strip())
    if near and near[2] in "bB" and near[3] == "":
        raise ValueError(f"{text!r} is not a count; write {near[1]}G for {near[1]} billion")
    if near and near[3].upper() in ("B", "IB"):
        raise ValueError(
            f"{text!r} reads as bytes, but MACs and parameters are counted; write {near[1]}{near[2].upper()}"
        )
    if near and near[2] not in "bB":
        raise ValueError(f"{text!r} is not a count; write {near[1]}{near[2].upper()}")
    raise ValueError(f"{text!r} is not a count; write for example 5G, 4.8G, 500M or 5e9")


def format_count(number: int) -> int | str:
    """The shortest exact way to write `number`: 5G, 21.5M; a plain integer where that is as good.

    >>> format_count(21_500_000)
    '21.5M'
    >>> format_count(1200)
    1200
    """
    for suffix in ("T", "G", "M"):
        scaled = Decimal(number) / _SCALE[suffix]
        if scaled >= 1 and scaled == round(scaled, 3):
            return f"{scaled.normalize():f}{suffix}"
    return number


def short_count(number: float) -> str:
    """`number` to about three digits, for people: 4.80G, 21.5M, 147.

    >>> short_count(4800254784)
    '4.80G'
    """
    for suffix in ("T", "G", "M", "K"):
        scaled = number / _SCALE[suffix]
        if scaled >= 1:
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.1f}{suffix}"
    return f"{number:.0f}"


def parse_seconds(value: object) -> float:
    """Read a length of time: 5m, 90s, 2h, or a number of seconds. Raises ValueError with what to write instead."""
    if isinstance(value, str):
        match = _TIME.fullmatch(value)
        seconds = float(match[1]) * _SECONDS[match[2]] if match else math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"{value!r} is not a length of time; write for example 5m, 90s or 2h")
    return seconds


def format_seconds(seconds: float) -> str:
    """The inverse of `parse_seconds`: 300.0 is 5m.

    >>> format_seconds(300.0), format_seconds(90.0)
    ('5m', '90s')
    """
    for suffix in ("h", "m"):
        if seconds % _SECONDS[suffix] == 0:
            return f"{seconds / _SECONDS[suffix]:g}{suffix}"
    return f"{seconds:g}s"
