"""Compare interpolated and recomputed sinusoids at other image sizes, with weights trained at 64 pixels.

    python benchmarks/position.py [RUN]

RUN is a finished run of `t2tbuild train t2t_vit_7`; without it, the script trains one, which takes two minutes.
Measured on 2026-11-22, two CPU cores, validation accuracy (270 digits) with the interpolated and with the recomputed
table: 48 pixels 87.4%, 84.4%; 64 98.1%, 98.1%; 80 94.1%, 91.1%; 96 86.7%, 75.9%;
128 55.2%, 40.7%; 192 24.8%, 23.0%.
"""

import sys
import tempfile

import torch

from t2tbuild import build_model, load_spec, load_weights, train
from t2tbuild.layout import Grid
from t2tbuild.modules.position import sinusoid_table
from t2tbuild.spec.data import DigitsData
from t2tbuild.training.data import load_data
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import evaluate

CPU = torch.device("cpu")


def main() -> None:
    run = sys.argv[1] if len(sys.argv) > 1 else str(train(load_spec("t2t_vit_7"), tempfile.mkdtemp()).run)
    print(f"{'pixels':>6}  {'grid':>8}  interpolated  recomputed")
    for size in (48, 64, 80, 96, 128, 192):
        spec = load_spec(f"{run}/spec.yaml", [f"model.image_size={size}"]).model
        data = load_data(DigitsData(image_size=size), image=Grid(size, size), in_chans=3, device=CPU)
        model = build_model(spec)
        load_weights(model, run)
        interpolated = evaluate(model, data, "validation", DistributedContext(CPU), torch.float32).accuracy
        model.pos_embed.data = sinusoid_table(model.pos_embed.shape[1], model.pos_embed.shape[2])
        recomputed = evaluate(model, data, "validation", DistributedContext(CPU), torch.float32).accuracy
        print(f"{size:>6}  {model.grid!s:>8}  {interpolated:>12.1%}  {recomputed:>10.1%}")


main()
