"""Enters our models into timm's registry when it is imported; `t2tbuild.timm_registry` says what timm then knows."""

from t2tbuild.timm_registry import ANY, model_configs, register

__all__ = ["ANY"]  # timm adds the names of the models

default_cfgs = model_configs()
register(__name__)
