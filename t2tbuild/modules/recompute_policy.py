"""The tensor size from which recomputation pays off. Torch-free, because the closed-form memory model uses it too."""

RECOMPUTE_THRESHOLD = 4 << 20
"""Size in bytes from which training recomputes a cheap tensor in the backward pass instead of saving it.

Recomputation costs a few percent of a step, which is worth it where memory limits the batch size. Without this
threshold small models at batch size 1 were 3 to 10% slower on two CPU cores (docs/speed.md).
"""


def images_per_chunk(bytes_per_image: int) -> int:
    """Return how many images inference on a CPU unfolds at once: RECOMPUTE_THRESHOLD bytes of tokens, at least one."""
    return max(1, RECOMPUTE_THRESHOLD // max(1, bytes_per_image))
