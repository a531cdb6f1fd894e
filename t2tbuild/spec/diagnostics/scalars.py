"""Parse plain scalars of YAML 1.2, and suggest what to write for lookalikes of them."""

import math
import re
from typing import Any

MAX_DIGITS = 400

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,5})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

_LOOKALIKES = {
    "\u2212": ("a typographic minus sign", "-"),
    "\u2010": ("a typographic hyphen", "-"),
    "\u2011": ("a typographic hyphen", "-"),
    "\u2012": ("a dash", "-"),
    "\u2013": ("a dash", "-"),
    "\u2014": ("a dash", "-"),
    "\u201c": ("a curly quote", '"'),
    "\u201d": ("a curly quote", '"'),
    "\u201e": ("a curly quote", '"'),
    "\u2018": ("a curly quote", "'"),
    "\u2019": ("a curly quote", "'"),
    "\u00a0": ("a no-break space", " "),
    "\u202f": ("a no-break space", " "),
    "\u3000": ("a wide space", " "),
    "\u200b": ("an invisible space", ""),
    "\ufeff": ("a byte-order mark", ""),
    "\uff1a": ("a wide colon", ":"),
    "\uff0c": ("a wide comma", ","),
}
_PLAIN = str.maketrans({lookalike: plain for lookalike, (_, plain) in _LOOKALIKES.items()})


class ScalarError(ValueError):
    """An invalid scalar. `hint` says what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message, self.hint = message, hint


def parse_scalar(text: str) -> Any:
    """Parse a plain scalar. Raises ScalarError for a number that YAML 1.1 and 1.2 read differently."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS and _INT.fullmatch(text):
        raise ScalarError(f"a number of {len(text):,} digits", "write fewer")
    if _LEADING_ZERO.fullmatch(text):
        raise ScalarError(f"{text:.60} has a leading zero", f"write {int(text[:MAX_DIGITS])}")
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return math.copysign(math.inf, -1 if text[0] == "-" else 1)
    return math.nan if text in (".nan", ".NaN", ".NAN") else text


def find_lookalike(text: str) -> tuple[str, str] | None:
    r"""Return a description of the first character that is easily taken for a YAML one, and what to write instead.

    >>> find_lookalike("\u00a05")
    ('(U+00A0) is a no-break space', 'write 5')
    """
    for character in text:
        if character in _LOOKALIKES:
            prefix = f"{character!r} " if character.isprintable() else ""
            name, _ = _LOOKALIKES[character]
            plain = text.translate(_PLAIN).strip()
            if plain[:1] == plain[-1:] and plain[:1] in ("'", '"'):
                plain = plain[1:-1] or "it without quotes"
            return f"{prefix}(U+{ord(character):04X}) is {name}", f"write {plain:.60}"
    return None


def suggest_number(text: str) -> str:
    """Return what to write for a text where a number is required; empty if that is unclear.

    >>> suggest_number("1_000"), suggest_number("0x1F"), suggest_number("1:30"), suggest_number("224px")
    ('write 1000', 'write 31', '1:30 is text in YAML 1.2; write 90', 'write 224')
    """
    written, text = text, text.strip()
    if len(text) > MAX_DIGITS or not text.isascii():
        return ""
    if _FLOAT.fullmatch(text):
        return "remove the quotes" if written == text else f"write {text}"
    if re.fullmatch(r"[-+]?0[xob][0-9A-Fa-f]+", text):
        try:
            return f"write {int(text, 0)}"
        except ValueError:
            return ""
    if re.fullmatch(r"[-+]?[0-9]{1,9}:[0-5]?[0-9]", text):
        minutes, seconds = text.split(":")
        return f"{text} is text in YAML 1.2; write {int(minutes) * 60 + int(seconds)}"
    if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)? *%", text):
        return f"write {float(text.rstrip(' %')) / 100:g}"
    for pattern, plain in (
        (r"[-+]?[0-9]+(_[0-9]+)+", text.replace("_", "")),
        (r"[-+]?[0-9]{1,3}(,[0-9]{3})+", text.replace(",", "")),
        (r"[-+]?[0-9]+,[0-9]+", text.replace(",", ".")),
        (r"[-+]?[0-9]+(\.[0-9]+)? *(px|pixels?|epochs?|blocks?|[,;])", re.sub(r" *[a-z,;]+$", "", text)),
    ):
        if re.fullmatch(pattern, text):
            return f"write {plain}"
    return ""


_BOOLS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def suggest_bool(value: object) -> str:
    """Return what to write for a value where true or false is required."""
    if isinstance(value, str) and value.lower() in _BOOLS:
        return f"{value} is text in YAML 1.2; write {_BOOLS[value.lower()]}"
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return "remove the quotes"
    return f"write {'true' if value else 'false'}" if value in (0, 1) else "write true or false"


def format_value(value: object) -> str:
    """Format a value for a message, cut if it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'}"
    text = repr(value) if isinstance(value, str) else to_yaml(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def to_yaml(value: object) -> str:
    """Format a value as YAML on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        case list() | tuple():
            return f"[{', '.join(map(to_yaml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {to_yaml(item)}' for key, item in value.items())}}}"
        case _:
            return str(value)
