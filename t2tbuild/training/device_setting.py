"""The device that a user names, by option or variable. Torch-free."""

import os

DEVICE_VARIABLE = "T2TBUILD_DEVICE"
"""Environment variable: the device where none is named."""


def device_setting(name: str | None = None) -> str | None:
    """Return the name of the device: `name`, else that of the variable T2TBUILD_DEVICE, None if neither is given."""
    return name or os.environ.get(DEVICE_VARIABLE) or None
