"""Extensions: define a token attention, a tokenizer, a block option or a backbone of your own, in one file.

A file defines a spec node, a torch module with its builder and, if costs are to be predicted, a symbolic forward:

    from t2tbuild import extension

    EXTENSIONS = [extension.TokenAttention(node=WindowAttention, build=build, forward=forward)]

A spec names the file: `extensions: [my_attention.py]`. See docs/extending.md. Torch-free.
"""

from t2tbuild.spec.backbone import BaseBackbone as BackboneNode
from t2tbuild.spec.base import ListAsTuple, Node, Violation, lint, rule, unit
from t2tbuild.spec.extension.registry import (
    Backbone,
    BlockOption,
    Extension,
    ExtensionError,
    TokenAttention,
    Tokenizer,
    register,
    unregister,
)
from t2tbuild.spec.tokenizer import BaseTokenizer as TokenizerNode
from t2tbuild.spec.tokenizer import Window
from t2tbuild.symbolic.block import BlockHooks, BlockShape
from t2tbuild.symbolic.forward import Forward, Split, Tensor
from t2tbuild.symbolic.row import BoxKind, Caption, Row

__all__ = [
    "Backbone",
    "BackboneNode",
    "BlockHooks",
    "BlockOption",
    "BlockShape",
    "BoxKind",
    "Caption",
    "Extension",
    "ExtensionError",
    "Forward",
    "ListAsTuple",
    "Node",
    "Row",
    "Split",
    "Tensor",
    "TokenAttention",
    "Tokenizer",
    "TokenizerNode",
    "Violation",
    "Window",
    "lint",
    "register",
    "rule",
    "unit",
    "unregister",
]
