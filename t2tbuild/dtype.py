"""The types that matrix products are computed in."""

from enum import StrEnum


class Precision(StrEnum):
    """Of the arithmetic; below float32 by autocast, and weights stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return 4 if self is Precision.FLOAT32 else 2
