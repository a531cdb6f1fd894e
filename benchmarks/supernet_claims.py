"""Test the T2T paper's claims with supernets: python benchmarks/supernet_claims.py [--out DIR] [--markdown].

Each pair of models of benchmarks/claims.py gets a supernet of its own, whose space holds both and is as small as it
can be: a claim's two tokenizers, or its two backbones. Where these differ in depth, it also has each with the other's
depth, as a search over depth and width would: a deep, wide member that holds all others, and a shallow, narrow one.

The supernet is trained by the trainer of a search, with the sandwich rule, on the data of the default proxy: digits at
32 pixels, a quarter of the width, the proxy's batch size and learning rate, and as many steps as its last rung has. Two
settings make a pair comparable. All members learn from the labels (`distill: false`), so no model is the teacher of the
other. No member makes one model of the pair an end of the sandwich rule, which is trained at every step, and the other
not. So both models are trained equally often but for chance, and --out records how often.

A result is the difference of the inherited validation losses, averaged weights (EMA), as a search evaluates members:
-ln(loss), first minus second, with a 95% t interval over the seeds. Pairs that no supernet can hold are named with the
reason. Each result is kept in --out, so that a run that was interrupted continues.
"""

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import CLAIMS
from rich.console import Console
from rich.table import Table
from scipy import stats
from supernet import Case, load_case, train_supernet

from t2tbuild import load_spec
from t2tbuild.errors import FieldError
from t2tbuild.files import atomic_write
from t2tbuild.nas.field_paths import to_plain
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.supernet.evaluation import MemberEvaluator, Task
from t2tbuild.nas.supernet.trainer import SupernetTrainer
from t2tbuild.spec.backbone import PlainBackbone
from t2tbuild.spec.base import Node
from t2tbuild.spec.model import ModelSpec

LEVEL = 0.95
BUDGET = "100G"
"""Multiply-adds that no member reaches: the members are those of the space."""
COLUMNS = ("claim", "pair", "supernet", "inherited accuracy", "steps of each")


@dataclass(frozen=True)
class Inherited:
    """A model with inherited weights on the validation split, and the number of steps that trained it."""

    loss: float
    accuracy: float
    steps: int


@dataclass(frozen=True)
class PairResult:
    """Both models of a pair in a supernet of one seed, and the seconds of its training."""

    first: Inherited
    second: Inherited
    seconds: float

    @property
    def difference(self) -> float:
        """The difference of -ln(loss): above zero is better for the first model."""
        return math.log(self.second.loss / self.first.loss)


def load_model(name: str) -> ModelSpec:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    return model


def field_of(first: ModelSpec, second: ModelSpec) -> tuple[str, list[Node]]:
    """Return the field in which two models differ, and its values in their space."""
    if first.tokenizer != second.tokenizer:
        assert first.backbone == second.backbone
        return "tokenizer", [first.tokenizer, second.tokenizer]
    one, other = first.backbone, second.backbone
    if not (isinstance(one, PlainBackbone) and isinstance(other, PlainBackbone)) or one.depth == other.depth:
        return "backbone", [one, other]
    crossed = [a.model_copy(update={"depth": b.depth}) for a, b in ((one, other), (other, one))]
    return "backbone", [one, other, *crossed]


def write_search(folder: Path, pair: tuple[str, str], steps: int, seed: int) -> Path:
    """Write the search spec of a pair, and return its path."""
    field, values = field_of(*(load_model(name) for name in pair))
    search = {
        "name": "supernet_claims",
        "base": pair[1],
        "budget": {"macs": BUDGET},
        "space": {field: {"choices": [to_plain(value) for value in values]}},
        "supernet": {"steps": steps, "distill": False},
        "proxy": {"width": "quarter"},
        "seed": seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.yaml"
    atomic_write(path, json.dumps({"version": 1, "search": search}))  # JSON is YAML
    return path


def measure(pair: tuple[str, str], given: argparse.Namespace, seed: int, console: Console) -> PairResult:
    """Return the result of a pair with a seed, from --out if it is there. Raises FieldError where it is refused."""
    name = f"{'-'.join(pair)}-{given.steps}-seed{seed}"
    path, folder = given.out / f"{name}.json", given.out / name
    if path.exists():
        return read_result(json.loads(path.read_text()))
    case = load_case(write_search(folder, pair, given.steps, seed), given.out)
    trainer, seconds = train_supernet(case)
    first, second = (evaluate_inherited(case, trainer, load_model(one)) for one in pair)
    result = PairResult(first, second, seconds)
    atomic_write(path, json.dumps(asdict(result)))
    shutil.rmtree(folder)
    console.print(f"{name}: {result.difference:+.3f}, {seconds:.0f} s", highlight=False)
    return result


def read_result(data: dict[str, Any]) -> PairResult:
    return PairResult(Inherited(**data["first"]), Inherited(**data["second"]), data["seconds"])


def evaluate_inherited(case: Case, trainer: SupernetTrainer, model: ModelSpec) -> Inherited:
    """Evaluate a model with the averaged weights of a supernet."""
    member = next(one for one in case.members if one.key == key_of(model))
    evaluator = MemberEvaluator(case.evaluator, trainer.averaged(), case.folder / "trials")
    found = evaluator.perform(Task(member.model), lambda: None)
    assert math.isfinite(found.loss), f"{model.name} cannot be evaluated"
    ((field, value),) = member.values.items()
    return Inherited(found.loss, found.accuracy, trainer.counts[field][value])


def describe(results: Sequence[PairResult]) -> list[str]:
    """Return the cells of a pair: the mean difference with its interval, mean accuracies, and mean steps."""
    values = [one.difference for one in results]
    mean, interval = float(np.mean(values)), ""
    if len(values) > 1:
        low, high = stats.t.interval(LEVEL, len(values) - 1, loc=mean, scale=stats.sem(values))
        interval = f" ({low:+.2f} to {high:+.2f})"
    models = [one.first for one in results], [one.second for one in results]
    accuracy = ", ".join(f"{np.mean([one.accuracy for one in each]):.3f}" for each in models)
    steps = ", ".join(f"{np.mean([one.steps for one in each]):.0f}" for each in models)
    return [f"{mean:+.2f}{interval}", accuracy, steps]


def rows(given: argparse.Namespace, console: Console) -> list[list[str]]:
    """Return the cells of the table, after the trainings that are missing."""
    found = []
    for claim in CLAIMS:
        for pair in claim.pairs:
            try:
                cells = describe([measure(pair, given, seed, console) for seed in range(given.seeds)])
            except FieldError as error:
                if error.rule != "supernet":
                    raise
                console.print(f"{pair[0]} - {pair[1]}: refused: {error}", highlight=False)
                cells = [error.message.partition(":")[0], "", ""]
            found.append([claim.text if pair is claim.pairs[0] else "", f"{pair[0]} - {pair[1]}", *cells])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-supernet-claims"))
    parser.add_argument("--steps", type=int, default=200, help="training steps of each supernet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    cells = rows(given, Console(stderr=True, width=200))
    if given.markdown:
        for row in (COLUMNS, ["---"] * len(COLUMNS), *cells):
            print(f"| {' | '.join(row)} |")
        return
    table = Table(*COLUMNS, title=f"-ln(loss) with inherited weights after {given.steps} steps, first minus second")
    for row in cells:
        table.add_row(*row)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
