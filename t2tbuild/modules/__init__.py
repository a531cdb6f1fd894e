"""Torch modules, one concept of the paper per file. Parameter names are those of the authors' released code.

Names of tensors carry their shape: B images, N tokens, C channels, H heads, D channels per head, M random features,
P prefix tokens.
"""
