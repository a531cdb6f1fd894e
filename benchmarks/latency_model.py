"""The error of the latency model on fresh candidates, and the measurements that it saves: benchmarks/latency_model.py.

Candidates around T2T-ViT-7, of up to twice its MACs, are drawn at random and measured as a search measures them: in
rounds with the base. The latency model is fitted to the first of them, and predicts others before they are measured.
Then the rule of a search decides on many more candidates, with the base's latency as the limit.

Measured on 2026-11-30 at 112 pixels (--image-size 112 --budget-macs 560M --fitted 24), one thread of torch on a quiet
machine of two cores, where the base took 32.9 ms; errors on 20 fresh candidates:

fitted to  median error  worst error  Kendall's tau
 6                 4.0%        13.8%           0.94
12                 1.9%         7.2%           0.99
24                 2.0%         6.3%           0.99

Of 300 more candidates, 165 are predicted above 42.8 ms and not measured: 237 s saved, at 1.4 s each. None of the fresh
ones within the limit would have been left out.

Part of the error is that of the measurements: an earlier run under a load average of 5 had a median error of 5.0%, at
worst 21.3%, and ruled out 133 of 300. The bytes of all kinds of operations share one row, since with that grouping its
error was 4.4% over 40 random splits of those measurements, with rows of their own 5.9%.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import scipy
import torch
from rich.console import Console
from rich.table import Table

from t2tbuild import load_search_spec, load_spec, write_spec
from t2tbuild.bench.latency_model import Work, fit_latency_model, latency_features, prediction_error
from t2tbuild.nas import latency_meter
from t2tbuild.nas.latency_meter import MIN_MARGIN, MIN_MODELS, LatencyMeter
from t2tbuild.nas.latency_readings import MemoryStore
from t2tbuild.nas.plan import Plan, plan
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.latency import LatencyLimit

SPACE = {
    "backbone.embed_dim": {"low": 128, "high": 320, "step": 32},
    "backbone.head_dim": {"choices": [32, 64]},
    "backbone.mlp_ratio": {"choices": [1, 2, 3]},
    "backbone.depth": {"fill": [0.2, 1.0]},
    "tokenizer.stages.*.token_dim": {"choices": [16, 32, 48, 64]},
    "tokenizer.stages.*.attention": {"choices": ["performer", "transformer"]},
}


def draw(planned: Plan, seed: int) -> Iterator[ModelSpec]:
    """Yield different members of the space at random."""
    rng, seen = random.Random(seed), set[str]()
    while True:
        members = planned.members.solve(planned.space.draw_uniform(rng))
        if members and (member := rng.choice(members)).key not in seen:
            seen.add(member.key)
            yield member.model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=["torch", "onnxruntime"], default="torch")
    parser.add_argument("--fitted", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=20)
    parser.add_argument("--drawn", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--budget-macs", default="2.4G", help="with the base's 1.16G as the limit of the latency")
    parser.add_argument("--save", type=Path, help="write what was measured as JSON")
    args = parser.parse_args()
    latency_meter.LATENCY_SECONDS = args.seconds
    with TemporaryDirectory() as folder:
        base_file = Path(folder) / "base.yaml"
        write_spec(load_spec("t2t_vit_7", [f"model.image_size={args.image_size}"]), base_file)
        changes = {"base": str(base_file), "budget": {"macs": args.budget_macs}, "space": SPACE}
        overrides = [f"search.{key}={json.dumps(value)}" for key, value in changes.items()]
        planned = plan(load_search_spec("lite", overrides))
    limit = LatencyLimit(max=1.0, runtime=args.runtime, threads=1)
    meter = LatencyMeter(limit, planned.base, torch.device("cpu"), MemoryStore(), shared=False)
    started = time.perf_counter()
    models = draw(planned, 0)
    measured: list[tuple[Work, float]] = []
    for _ in range(args.fitted + args.fresh):
        model = next(models)
        work = latency_features(model)
        assert work is not None
        measured.append((work, meter.measure(model)))
    seconds = (time.perf_counter() - started) / (args.fitted + args.fresh)
    base = meter.measure(planned.base)
    if args.save is not None:
        args.save.write_text(json.dumps({"base": base, "measured": measured}))

    console, table = Console(width=110), Table(title=f"{meter}, {args.fresh} fresh candidates")
    for name in ("fitted to", "median error", "worst error", "Kendall's tau"):
        table.add_column(name, justify="right")
    fresh = measured[args.fitted :]
    for count in sorted({MIN_MODELS, args.fitted // 2, args.fitted}):
        works, times = zip(*measured[:count], strict=True)
        fitted = fit_latency_model(works, times)
        predicted, actual = [fitted.predict(work) for work, _ in fresh], [one for _, one in fresh]
        error = prediction_error(predicted, actual)
        assert error is not None
        tau = scipy.stats.kendalltau(predicted, actual).statistic
        table.add_row(str(count), f"{error.median:.1%}", f"{error.worst:.1%}", f"{tau:.2f}")
    console.print(table)

    edge = base * (1 + max(MIN_MARGIN, 2 * error.worst))
    wrong = sum(one > edge and time_ <= base for one, time_ in zip(predicted, actual, strict=True))
    drawn = [latency_features(next(models)) for _ in range(args.drawn)]
    saved = sum(fitted.predict(work) > edge for work in drawn if work is not None)
    console.print(
        f"limit: the base's {1000 * base:.1f} ms. Of {args.drawn} more candidates {saved} are predicted above "
        f"{1000 * edge:.1f} ms and not measured, which saves {saved * seconds:.0f} s at {seconds:.1f} s each. "
        f"Of the {args.fresh} fresh ones {wrong} within the limit would have been left out."
    )
    shares = {kind: fitted.table[kind] * amount for kind, amount in fresh[0][0].items()}
    for kind, share in sorted(shares.items(), key=lambda one: -one[1])[:6]:
        console.print(f"  {kind:18} {fitted.table[kind]:.2e} s each, {share / fresh[0][1]:5.1%} of the first fresh one")


if __name__ == "__main__":
    main()
