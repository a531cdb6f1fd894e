"""The layers of our models by their role, for zero-cost proxies that treat attention and MLP differently.

Shapes do not show the role: a T2T stage has square matrices in both its attention and its MLP.
"""

from collections.abc import Iterator

from torch import nn

from t2tbuild.modules.attention import Attention, BlockAttention
from t2tbuild.modules.ghost import GhostAttention, GhostMlp
from t2tbuild.modules.mlp import Mlp
from t2tbuild.modules.performer import TokenPerformer
from t2tbuild.modules.token_transformer import TokenAttention


def attention_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of queries, keys and values, and the output projections of attention."""
    return list(_layers(model, attention=True))


def mlp_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of all MLPs, those of T2T stages included."""
    return list(_layers(model, attention=False))


def preactivations(model: nn.Module) -> list[nn.Linear]:
    """Return the layers whose output enters the activation function of an MLP."""
    return [layer for module in model.modules() for layer in _mlp(module)[:1]]


def _layers(model: nn.Module, *, attention: bool) -> Iterator[nn.Linear]:
    for module in model.modules():
        yield from _attention(module) if attention else _mlp(module)


def _attention(module: nn.Module) -> list[nn.Linear]:
    """Return the layers of an attention's own; those of an extension's block attention are all that it has."""
    match module:
        case Attention() | TokenAttention():
            return [module.qkv, module.proj]
        case GhostAttention():
            return [module.q, module.k, module.v, module.proj]
        case TokenPerformer():
            return [module.kqv, module.proj]
        case BlockAttention():
            return [layer for layer in module.children() if isinstance(layer, nn.Linear)]
        case _:
            return []


def _mlp(module: nn.Module) -> list[nn.Linear]:
    match module:
        case Mlp() | GhostMlp():
            return [module.fc1, module.fc2]
        case TokenPerformer():
            return [layer for layer in module.mlp if isinstance(layer, nn.Linear)]
        case _:
            return []
