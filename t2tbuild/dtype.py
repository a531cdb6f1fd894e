"""The dtypes of matrix products."""

from enum import StrEnum


class Precision(StrEnum):
    """The precision of the arithmetic. Below float32 it is autocast's; weights stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def width(self) -> int:
        """The bytes per element."""
        return 4 if self is Precision.FLOAT32 else 2
