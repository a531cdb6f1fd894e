"""The option --data as changes of a spec that name the option in errors.

In every command they come first, then KEY=VALUE overrides, which may change fields of this data, then other options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2tbuild.spec.data import AnyData
    from t2tbuild.spec.overrides import Override


def data_changes(
    data: str, current: AnyData | None, field: str = "train.data", *, evaluation: bool = False
) -> list[Override]:
    """Return the overrides of --data, as `data_overrides` does; errors in what they set point to the option."""
    from t2tbuild.spec.overrides import Override
    from t2tbuild.training.data_option import data_overrides

    return [Override(one, f"--data {data}") for one in data_overrides(data, current, field, evaluation=evaluation)]
