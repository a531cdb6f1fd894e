"""Time the cache of images against the model that reads it: python benchmarks/cache.py [--images 100000].

It writes photographs of noise, 256 pixels high and of 200 classes, as JPEG files; decodes them into a cache at 64
pixels; opens the cache again; and reads augmented batches from it. Beside that, it times a bare step of the smallest
candidate of deep_narrow as the proxy trains it: forward, cross-entropy, backward, clipping and AdamW on a batch in
memory. Reading must be faster than the step consumes images. Memory is the largest resident set, with and without the
pages of mapped files, which the system takes back when others need memory.

Measured on 2026-11-30, two cores and 2 threads, torch 2.15.0, 64 pixels; reading is 21 times as fast as the step:

                                               images  seconds  images/s  peak memory, MB  of it not mapped, MB
before                                                                                856                   457
decoded into the cache                        101,000   167.13       604             1215                   505
cache opened, sums checked                    101,000     4.16    24,291             1215                   516
read in augmented batches                      12,800     2.01     6,365             2127                   552
bare step of the smallest candidate, 4 x 640       64     0.21       306             2220                   619
"""

import argparse
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec
from t2tbuild.nas.plan import plan
from t2tbuild.nas.proxy import make_proxy_model, resolve_width
from t2tbuild.nas.proxy_evaluator import load_proxy_data
from t2tbuild.nas.proxy_training import ProxyTrainer
from t2tbuild.nas.space_stats import measure_space
from t2tbuild.training.data.image_cache import CacheCallbacks
from t2tbuild.training.device import pick_device
from t2tbuild.training.loop import train_step
from t2tbuild.training.sampler import EpochSampler

CLASSES = 200
SOURCE = 256  # pixels of a side of the files
WARM_UP = 3


def write_image(folder: Path, number: int) -> None:
    """Write an image of noise, enlarged so that it compresses like a photograph."""
    random = np.random.default_rng(number)
    pixels = random.normal(128, 50, (SOURCE // 8, SOURCE // 8, 3)).clip(0, 255).astype(np.uint8)
    path = folder / f"class{number % CLASSES:03}" / f"{number // CLASSES}.jpg"
    Image.fromarray(pixels).resize((SOURCE, SOURCE), Image.Resampling.BICUBIC).save(path, quality=90)


def write_images(root: Path, images: int, validation: int) -> None:
    """Write ROOT/train and ROOT/val."""
    with ProcessPoolExecutor() as pool:
        for split, count in (("train", images), ("val", validation)):
            for label in range(CLASSES):
                (root / split / f"class{label:03}").mkdir(parents=True)
            list(pool.map(partial(write_image, root / split), range(count), chunksize=100))


def resident_bytes() -> tuple[int, int]:
    """Return the largest resident set so far, and the part of the present one that is no mapped file."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, int(status["RssAnon"].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64, help="pixels of the cached images")
    parser.add_argument("--batches", type=int, default=200, help="batches that are read")
    parser.add_argument("--steps", type=int, default=20, help="bare steps that are timed")
    parser.add_argument("--folder", type=Path, help="where files and cache are kept; by default a temporary folder")
    arguments = parser.parse_args()
    device = pick_device()
    table = Table("what", "images", "seconds", "images/s", "peak memory, MB", "of it not mapped, MB")

    def add_row(what: str, images: int, seconds: float) -> None:
        peak, own = resident_bytes()
        table.add_row(
            what, f"{images:,}", f"{seconds:.2f}", f"{images / seconds:,.0f}", f"{peak / 1e6:.0f}", f"{own / 1e6:.0f}"
        )

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        photos, validation = folder / "photos", max(CLASSES, arguments.images // 100)
        if not photos.exists():
            write_images(photos, arguments.images, validation)
        changes = [
            f"search.proxy.data={{kind: folder, root: {photos}, image_size: {arguments.side}}}",
            f"search.proxy.images={arguments.images}",
            f"search.proxy.cache={folder / 'cache'}",
        ]
        planned = plan(load_search_spec("deep_narrow", changes))
        proxy = resolve_width(planned.search.proxy, device.type)
        peak, own = resident_bytes()
        table.add_row("before", "", "", "", f"{peak / 1e6:.0f}", f"{own / 1e6:.0f}")

        for what in ("decoded into the cache", "cache opened, sums checked"):
            decoded = []
            started = time.perf_counter()
            data = load_proxy_data(planned, device, callbacks=CacheCallbacks(report=decoded.append))
            seconds = time.perf_counter() - started
            if decoded or what.startswith("cache"):
                add_row(what, data.size("train") + data.size("validation"), seconds)

        sampler = EpochSampler(data.size("train"), proxy.batch_size, seed=0)
        batches = data.train_batches(sampler, epoch=0, step=0, epochs=1_000_000)
        for _ in range(WARM_UP):
            batch = next(batches)
        started = time.perf_counter()
        for _ in range(arguments.batches):
            batch = next(batches)
        batch[0].sum().item()  # waits for the device
        add_row("read in augmented batches", arguments.batches * len(batch[1]), time.perf_counter() - started)

        smallest = measure_space(planned.members, 0).smallest.model
        trainer = ProxyTrainer(make_proxy_model(smallest, proxy, device.type), data, proxy, seed=0, device=device)
        seconds = []
        for _ in range(WARM_UP + arguments.steps):
            started = time.perf_counter()
            train_step(
                trainer.objective, trainer.model, trainer.optimizer, *batch, dtype=trainer.dtype, clip_grad=1.0
            ).item()
            seconds.append(time.perf_counter() - started)
        step = statistics.median(seconds[WARM_UP:])
        shape = f"{smallest.backbone.depth} x {smallest.backbone.embed_dim}"
        add_row(f"bare step of the smallest candidate, {shape}", len(batch[1]), step)
    console = Console(width=140)
    console.print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.side} pixels")
    console.print(table)


if __name__ == "__main__":
    main()
