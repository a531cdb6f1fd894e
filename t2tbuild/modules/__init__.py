"""Torch modules: one drawing of the paper, one file. Parameter names are those of the authors' released code.

Shapes live in names: B images, N tokens, C channels, H heads, D channels of a head, M random features.
"""

REMADE_FROM = 4 << 20
"""Bytes from which training computes a cheap tensor again rather than keep it.

Making one anew costs a few percent of a step (benchmarks/speed.py), which pays where memory is what limits the batch:
on two CPU cores small models at batch 1 were 3 to 10% slower without this bound.
"""
