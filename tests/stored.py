"""Records of runs as training writes them, made without training."""

import json
from pathlib import Path

from classicnets.models import create
from classicnets.runs import identity
from classicnets.runs.schema import SCHEMA
from classicnets.training import Config, Recipe, facts

LOG = [{"step": 11 * e, "epoch": float(e), "train_error": 60 / e, "test_error": 65 / e} for e in (1, 2, 3)]


def store(root: Path, numbers, experiment: str = "default", error: float = 20.0) -> list[Path]:
    """Folders of complete runs: seeds 0 to 4 of plain and residual nets of depths 8, 14, 20, ..."""
    found, decided = [], {}
    environment = [{"started": "2026-01-01T00:00:00Z", "python": "3.11.7"}]
    for number in numbers:
        depth, shortcut, seed = 8 + 6 * (number // 10), ("none", "A")[number // 5 % 2], number % 5
        if (depth, shortcut) not in decided:
            net = create("cifar_resnet", depth=depth, shortcut=shortcut)
            decided[depth, shortcut] = json.loads(json.dumps(facts(net, Config(recipe=Recipe(epochs=3)))))
        config = {**decided[depth, shortcut], "seed": seed}
        path = root / experiment / f"net{depth}-{shortcut}-s{seed}-{identity(config)}"
        (path / "checkpoints" / "33").mkdir(parents=True)
        result = error + depth / 100 + seed / 10
        status = {"state": "complete", "step": 33, "train_error": result, "test_error": result + 1}
        parts = {"config": {"schema": SCHEMA, **config}, "status": status, "environment": environment}
        for name, part in parts.items():
            (path / f"{name}.json").write_text(json.dumps(part))
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
        found.append(path)
    return found
