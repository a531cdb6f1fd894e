"""Parse and format numbers with a suffix: counts (5G, 21.5M, 5e9), amounts (24GiB, 312TFLOPS) and times (5m, 90s)."""

import math
import re
from decimal import Decimal

from t2tbuild.spec.diagnostics.scalars import ScalarError, format_value

COUNT_PATTERN = r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?[KMGT]?$"
"""Pattern of a count, for editors."""
BYTES_PATTERN = r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?([KMGT]?| ?(kB|MB|GB|KiB|MiB|GiB))$"
"""Pattern of a number of bytes, for editors."""
TIME_PATTERN = r"^([0-9]+\.?[0-9]*|\.[0-9]+)(ms|[smh])?$"
"""Pattern of a time, for editors."""

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_NUMBER = r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
_COUNT = re.compile(_NUMBER + "([KMGT]?)")
_NEAR_COUNT = re.compile(_NUMBER + r"\s*([kKmMgGtTbB]?)\s*([a-zA-Z/]*)")
_BYTES = re.compile(_NUMBER + " ?(kB|MB|GB|KiB|MiB|GiB)")
_NEAR_BYTES = re.compile(_NUMBER + r"\s*([kmg]?)(i?)b(?:ytes?)?", re.IGNORECASE)
_FLOPS = re.compile("flops?|flop/s", re.IGNORECASE)
_AMOUNT = re.compile(
    r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?) ?([KMGTPE]?)(i?)(?:B|B/s|FLOPS|FLOP/s)?", re.ASCII | re.IGNORECASE
)
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ms|[smh])?")
_NEAR_TIME = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*(?:(ms(?:ec)?s?|milli[a-z]*)|(s|m|h|d)[a-z]*)", re.IGNORECASE)
_BYTE_SCALE = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_EXAMPLE = "write for example 5G, 500M or 5e9"
_BYTES_EXAMPLE = "write for example 150MB, 150MiB or 150M"
_AMOUNT_EXAMPLE = "write for example 24G, 24GiB or 312TFLOPS"


class UnitError(ScalarError):
    """An invalid count, amount or time. `hint` says what to write instead."""


def parse_count(value: object) -> int:
    """Parse a count: 5G, 4.8G, 500M, 21.5M, 5e9, 5000000000.

    Raises UnitError if `value` is not a whole number from 1 to below 1e18.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"must be a count, got {format_value(value)}", _EXAMPLE)
    if isinstance(value, str):
        number = _parse_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UnitError(f"a count must be finite, got {value}", _EXAMPLE)
    else:
        number = Decimal(str(value))
    return _to_whole(number, value, _EXAMPLE)


def _to_whole(number: Decimal, value: object, example: str) -> int:
    """Return a number from 1 to below 1e18 as an integer; errors show `value`, from which it was read."""
    if number <= 0:
        raise UnitError(f"a count must be above zero, got {value!s:.40}", example)
    if number >= Decimal(10) ** 18:
        raise UnitError(f"a count must be below 1e18, got {value!s:.40}", example)
    if number != int(number):
        hint = f"write {number:f}G or {number:f}M" if number > Decimal("0.001") else example
        raise UnitError(f"a count must be a whole number, got {value!s:.40}", hint)
    return int(number)


def parse_bytes(value: object) -> int:
    """Parse a number of bytes: 150MB, 1.5 GB, 150MiB, or a count.

    Raises UnitError if `value` is not a whole number from 1 to below 1e18.

    >>> parse_bytes("150MB"), parse_bytes("1.5 GB"), parse_bytes("150MiB"), parse_bytes("150M")
    (150000000, 1500000000, 157286400, 150000000)
    """
    text = value if isinstance(value, str) and len(value) <= 60 else ""
    if match := _BYTES.fullmatch(text):
        return _to_whole(Decimal(match[1]) * _BYTE_SCALE[match[2]], value, _BYTES_EXAMPLE)
    if near := _NEAR_BYTES.fullmatch(text.strip()):
        raise UnitError(f"{text!r} is not a number of bytes", f"write {near[1]}{_byte_suffix(near[2], near[3])}")
    try:
        return parse_count(value)
    except UnitError as error:
        hint = _BYTES_EXAMPLE if error.hint == _EXAMPLE else error.hint
        raise UnitError(error.message.replace("is not a count", "is not a number of bytes"), hint) from None


def _byte_suffix(scale: str, binary: str) -> str:
    """Return the suffix as it is written, from letters in any case; none for plain bytes."""
    if not scale:
        return ""
    return f"{scale.upper()}iB" if binary else "kB" if scale in "kK" else f"{scale.upper()}B"


def _parse_text(text: str) -> Decimal:
    if len(text) > 60:
        raise UnitError(f"{format_value(text)} is not a count", _EXAMPLE)
    match = _COUNT.fullmatch(text)
    if match:
        return Decimal(match[1]) * _SCALE[match[2]]
    near = _NEAR_COUNT.fullmatch(text.strip())
    if near is None:
        raise UnitError(f"{text!r:.60} is not a count", _EXAMPLE)
    number, scale, word = near.groups()
    if scale in ("b", "B") and word.lower() in ("", "illion", "n"):
        raise UnitError(f"{text!r} is not a count", f"write {number}G for {number} billion")
    if scale in ("b", "B"):
        raise UnitError(f"{text!r} is not a count", _EXAMPLE)
    if word.lower() in ("b", "ib"):
        raise UnitError(
            f"{text!r} reads as bytes, but MACs and parameters are counted", f"write {number}{scale.upper()}"
        )
    if _FLOPS.fullmatch(word):
        half = f"{Decimal(number) / 2:f}{scale.upper()}"
        raise UnitError(
            f"{text!r} is not a count of MACs",
            f"write {number}{scale.upper()}, or {half} if a multiply-add was counted as two FLOPs",
        )
    if word and word.lower() not in ("mac", "macs", "params", "parameters", "param"):
        raise UnitError(f"{text!r} is not a count", _EXAMPLE)
    raise UnitError(f"{text!r} is not a count", f"write {number}{scale.upper()}")


def parse_amount(text: str) -> int:
    """Parse an amount of bytes, bytes/s or FLOP/s: 24G, 24GB, 24GiB, 312T, 312TFLOPS, 1.5TB/s.

    Raises UnitError if `text` is not an amount from 1 to 1e21.

    >>> parse_amount("24GB"), parse_amount("24GiB"), parse_amount("1.5 TB/s")
    (24000000000, 25769803776, 1500000000000)
    """
    match = _AMOUNT.fullmatch(text.strip()) if len(text) <= 60 else None
    scale = _SCALE[match[2].upper()] if match else 0
    if match and match[3]:
        scale = 1024 ** list(_SCALE).index(match[2].upper())
    amount = Decimal(match[1]) * scale if match else Decimal(0)
    if not 1 <= amount < Decimal(10) ** 21:
        raise UnitError(f"{text!r:.60} is not an amount from 1 to 1e21", _AMOUNT_EXAMPLE)
    return int(amount)


def format_count(number: int) -> int | str:
    """Format a count exactly, with a suffix if that is shorter: 5G, 21.5M.

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
    """Format a number with about three digits: 4.80G, 21.5M, 147.

    >>> short_count(4800254784)
    '4.80G'
    """
    for suffix in ("T", "G", "M", "K"):
        scaled = number / _SCALE[suffix]
        if scaled >= 1:
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.1f}{suffix}"
    return f"{number:.0f}"


def milliseconds(seconds: float) -> str:
    """Format seconds as milliseconds with three significant digits, without the unit.

    >>> milliseconds(0.0012345), milliseconds(1.5)
    ('1.23', '1,500')
    """
    return three_digits(seconds * 1000)


def three_digits(value: float) -> str:
    """Format a number with three significant digits.

    >>> three_digits(1234.5), three_digits(0.5), three_digits(0.00123)
    ('1,230', '0.50', '0.00123')
    """
    rounded = float(f"{value:.3g}")
    if 0 < rounded < 0.1:
        return f"{rounded:g}"
    return f"{rounded:,.{max(0, 3 - len(str(int(rounded))))}f}"


def plural(number: int, noun: str) -> str:
    """Return a number of things, with its noun.

    >>> plural(1, "image"), plural(1200, "training image"), plural(2, "class")
    ('1 image', '1,200 training images', '2 classes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def is_or_are(number: int) -> str:
    """Return the verb for a number of things."""
    return "is" if number == 1 else "are"


def parse_seconds(value: object) -> float:
    """Parse a time and return seconds: 5m, 90s, 2h, or a number of seconds.

    Raises UnitError if `value` is not a time above zero.
    """
    if isinstance(value, str):
        match = _TIME.fullmatch(value)
        seconds = float(match[1]) * _SECONDS[match[2] or ""] if match else math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        raise UnitError(f"{format_value(value)} is not a time", _suggest_time(value))
    return seconds


def _suggest_time(value: object) -> str:
    near = _NEAR_TIME.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 60 else None
    if near is None or float(near[1]) == 0:
        return "write for example 5m, 90s or 2h"
    if near[2]:
        return f"write {near[1]}ms"
    number, letter = near[1], near[3].lower()
    return f"write {float(number) * 24:g}h" if letter == "d" else f"write {number}{letter}"


def format_seconds(seconds: float) -> str:
    """Format seconds as a time: 300.0 is 5m. This is the inverse of `parse_seconds`.

    >>> format_seconds(300.0), format_seconds(90.0), format_seconds(0.02), format_seconds(0.0011)
    ('5m', '90s', '20ms', '1.1ms')
    """
    short = f"{seconds * 1000:g}"
    if seconds < 1 and float(short) * _SECONDS["ms"] == seconds:
        return f"{short}ms"
    for suffix in ("h", "m"):
        if seconds % _SECONDS[suffix] == 0:
            return f"{seconds / _SECONDS[suffix]:g}{suffix}"
    return f"{seconds:g}s"


def round_up(number: int) -> str:
    """Return the lowest short count that is not below a number.

    >>> round_up(4_800_254_784), round_up(999)
    ('4.81G', '999')
    """
    for scale, suffix in ((10**9, "G"), (10**6, "M")):
        if number >= scale:
            hundredths = -(-number * 100 // scale)
            return f"{hundredths / 100:g}{suffix}"
    return str(number)
