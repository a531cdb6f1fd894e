"""Torch modules: one drawing of the paper, one file. Parameter names are those of the authors' released code.

Shapes live in names: B images, N tokens, C channels, H heads, D channels of a head, M random features.
"""
