"""Records of runs as training writes them, made without training."""

import json
from pathlib import Path

from classicnets.models import create
from classicnets.runs.identity import SCHEMA, digest
from classicnets.training import Config, Recipe, facts

RECIPE = Recipe(epochs=3)
LOG = [{"step": 11 * e, "epoch": float(e), "train_error": 60 / e, "test_error": 65 / e} for e in (1, 2, 3)]
ENVIRONMENT = ({"started": "2026-01-01T00:00:00Z", "python": "3.11.7"},)


def put(root: Path, config: dict, label: str, log=LOG, environment=ENVIRONMENT, **status) -> Path:
    """The folder of a run of `config`; complete, with its last errors, unless `status` says otherwise."""
    path = root / f"{label}-{digest(config)}"
    step = log[-1]["step"] if log else 0
    (path / "checkpoints" / str(step)).mkdir(parents=True)
    status = {"state": "complete", "step": step, **status}
    parts = {"config": {"schema": SCHEMA, **config}, "status": status, "environment": list(environment)}
    for name, part in parts.items():
        (path / f"{name}.json").write_text(json.dumps(part))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return path


def configuration(seed: int = 0, recipe: Recipe = RECIPE, **fields) -> dict:
    """That of a residual net, as a record holds it."""
    return json.loads(json.dumps(facts(create("cifar_resnet", **fields), Config(recipe=recipe, seed=seed))))


def store(root: Path, numbers, experiment: str = "default", error: float = 20.0) -> list[Path]:
    """Folders of complete runs: seeds 0 to 4 of plain and residual nets of depths 8, 14, 20, ..."""
    found, decided = [], {}
    for number in numbers:
        depth, shortcut, seed = 8 + 6 * (number // 10), ("none", "A")[number // 5 % 2], number % 5
        if (depth, shortcut) not in decided:
            decided[depth, shortcut] = configuration(depth=depth, shortcut=shortcut)
        config = {**decided[depth, shortcut], "seed": seed}
        result, label = error + depth / 100 + seed / 10, f"net{depth}-{shortcut}-s{seed}"
        found.append(put(root / experiment, config, label, train_error=result, test_error=result + 1))
    return found
