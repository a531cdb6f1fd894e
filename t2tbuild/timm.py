"""Register our models with timm on import; see `t2tbuild.timm_registry`."""

from t2tbuild.timm_registry import ANY, model_configs, register

__all__ = ["ANY"]  # timm adds the names of the models

default_cfgs = model_configs()
register(__name__)
