"""What is small enough to be kept, or to be laid out at once. Torch-free, since memory by formula asks it too."""

RECOMPUTE_THRESHOLD = 4 << 20
"""Bytes from which training computes a cheap tensor again rather than keep it.

Making one anew costs a few percent of a step, which pays where memory is what limits the batch: on two CPU cores small
models at batch 1 were 3 to 10% slower without this bound (docs/speed.md).
"""


def images_at_once(bytes_of_one: int) -> int:
    """Of how many images inference on a CPU lays out the tokens together: as REMADE_FROM holds, at least of one."""
    return max(1, RECOMPUTE_THRESHOLD // max(1, bytes_of_one))
