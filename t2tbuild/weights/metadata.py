"""What an exported file knows about itself: the classes, the preprocessing, the precision and the spec. Torch-free."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from t2tbuild.files import parse_json
from t2tbuild.weights.label_names import LABEL_NAMES, label_metadata
from t2tbuild.weights.preprocessing import RESAMPLING, Preprocessing, is_crop, is_shrink

KEY = "t2tbuild"
"""Key of the whole as JSON, in the metadata of a file."""
VERSION = 1
MAX_SIDE = 100_000
"""Pixels; a larger side is a damaged one."""

ExportPrecision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class ExportInfo:
    """The metadata of an exported file.

    Attributes:
        name: The model's name.
        label_names: Names of the classes in the order of the logits; None if they have none.
        preprocessing: How an image becomes the input.
        precision: That of the weights.
        spec: The model node of the spec as plain data; None if it is not known.
    """

    name: str
    label_names: tuple[str, ...] | None
    preprocessing: Preprocessing
    precision: ExportPrecision = "float32"
    spec: dict[str, Any] | None = None

    def to_metadata(self) -> dict[str, str]:
        """Return the texts to save in the file: the whole as JSON under KEY, and what others read under plain keys."""
        steps = self.preprocessing
        whole = {
            "version": VERSION,
            "name": self.name,
            LABEL_NAMES: None if self.label_names is None else list(self.label_names),
            "preprocessing": asdict(steps),
            "precision": self.precision,
            "spec": self.spec,
        }
        return {
            KEY: json.dumps(whole, ensure_ascii=False),
            "input_size": json.dumps([steps.in_chans, *steps.image]),
            "mean": json.dumps(steps.mean),
            "std": json.dumps(steps.std),
            "crop_pct": json.dumps(steps.crop_pct),
            "interpolation": steps.interpolation,
        } | label_metadata(self.label_names)


def parse_metadata(text: str) -> ExportInfo:
    """Return what the value of KEY says. Raises ValueError if it is not of this version of t2tbuild."""
    try:
        whole = parse_json(text)
        if whole["version"] != VERSION:
            raise ValueError(f"its metadata have version {whole['version']}, and this t2tbuild reads {VERSION}")
        steps, names = whole["preprocessing"], whole[LABEL_NAMES]
        image, shrink = (int(steps["image"][0]), int(steps["image"][1])), steps.get("shrink")
        known = steps["interpolation"] in list(RESAMPLING) and len(steps["image"]) == 2 and is_crop(steps["crop_pct"])
        if not known or not all(1 <= side <= MAX_SIDE for side in (*image, int(steps["in_chans"]))):
            raise KeyError
        if shrink is not None and not is_shrink(shrink, image):
            raise KeyError
        return ExportInfo(
            name=str(whole["name"]),
            label_names=None if names is None else tuple(map(str, names)),
            preprocessing=Preprocessing(
                image=image,
                in_chans=int(steps["in_chans"]),
                mean=tuple(map(float, steps["mean"])),
                std=tuple(map(float, steps["std"])),
                crop_pct=float(steps["crop_pct"]),
                interpolation=steps["interpolation"],
                inside=bool(steps["inside"]),
                shrink=shrink,
                gray=bool(steps.get("gray")),
            ),
            precision=whole["precision"],
            spec=whole["spec"],
        )
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, json.JSONDecodeError):
        raise ValueError("its metadata are damaged") from None
