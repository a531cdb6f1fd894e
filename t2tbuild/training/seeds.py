"""Seeds that are derived from whole numbers, such as the seed of a run and a step. Torch-free."""


def fold_in(*parts: int) -> int:
    """Combine whole numbers into one seed below 2^63; a change of any of them gives an unrelated seed."""
    seed = 0
    for part in parts:
        seed = ((seed ^ part) * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**63
    return seed
