"""Compare predicted peak memory with what torch allocates: five specs, three batch sizes, forward and training.

    python benchmarks/memory.py [--device cuda]

Complete models at 224 pixels. On the CPU the peak is that of torch's allocations, with weights and AdamW's state.
Measured on 2026-11-23 on the CPU: largest error 0.3% forward, 0.5% in training (both bfloat16; float32 0.1%).
"""

import argparse

import torch

from t2tbuild import build_model, load_spec
from t2tbuild.bench.peak_memory import peak_memory, storage_bytes
from t2tbuild.bench.steps import inference_step, training_step
from t2tbuild.cost.memory import predict_memory
from t2tbuild.dtype import Precision
from t2tbuild.spec import ModelSpec

SPECS = ["t2t_vit_7", "t2t_vit_14", "t2t_vit_t_14", "t2t_vit_16_ghost", "t2t_vit_dense"]
BATCHES = [1, 4, 16]


def measure_peaks(model: ModelSpec, batch_size: int, precision: Precision, device: torch.device) -> tuple[int, int]:
    """Return the peak bytes of an inference step and of a training step, including weights and images."""
    dtype: torch.dtype = getattr(torch, precision)
    built = build_model(model).to(device)
    images = torch.randn(batch_size, model.in_chans, *model.image, device=device)
    labels = torch.randint(model.num_classes, (batch_size,), device=device)
    trained = [parameter for parameter in built.parameters() if parameter.requires_grad]
    constant = storage_bytes([*built.parameters(), images])
    inference = peak_memory(inference_step(built, images, dtype), device)
    training = peak_memory(training_step(built, images, labels, torch.optim.AdamW(trained), dtype), device)
    return constant + inference, constant + training


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = torch.device(parser.parse_args().device)
    largest_error: dict[str, float] = {}
    print("spec               precision batch   forward MB predicted   training MB predicted")
    for name in SPECS:
        model = load_spec(name).model
        assert isinstance(model, ModelSpec)
        for precision in (Precision.FLOAT32, Precision.BFLOAT16):
            for batch_size in BATCHES if precision is Precision.FLOAT32 else BATCHES[1:2]:
                measured = measure_peaks(model, batch_size, precision, device)
                predicted = predict_memory(model, batch_size, precision)
                ratios = [
                    estimate / actual
                    for estimate, actual in zip((predicted.inference, predicted.training), measured, strict=True)
                ]
                for mode, ratio in zip(("forward", "training"), ratios, strict=True):
                    largest_error[mode] = max(largest_error.get(mode, 0.0), abs(ratio - 1))
                print(
                    f"{name:18} {precision:9} {batch_size:5}   {measured[0] / 1e6:10,.1f} {ratios[0]:9.1%}   "
                    f"{measured[1] / 1e6:11,.1f} {ratios[1]:9.1%}",
                    flush=True,
                )
    print("largest error: " + ", ".join(f"{mode} {error:.1%}" for mode, error in largest_error.items()))


if __name__ == "__main__":
    main()
