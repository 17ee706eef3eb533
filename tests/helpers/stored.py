"""Records of runs as training writes them, made without training; and damaged."""

import json
import shutil
from pathlib import Path

from classicnets.models import create
from classicnets.runs import Record
from classicnets.runs.identity import SCHEMA, digest
from classicnets.runs.index import list_records
from classicnets.training import Config, Recipe, facts

RECIPE = Recipe(epochs=3)
LOG = [{"step": 11 * e, "epoch": float(e), "train_error": 60 / e, "test_error": 65 / e} for e in (1, 2, 3)]
ENVIRONMENT = ({"started": "2026-01-01T00:00:00Z", "python": "3.11.7"},)


def put(root: Path, config: dict, label: str, log=LOG, environment=ENVIRONMENT, **status) -> Path:
    """Return the folder of a run of `config`; complete, with its last errors, unless `status` says otherwise."""
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
    """Return that of a residual net, as a record holds it."""
    return json.loads(json.dumps(facts(create("cifar_resnet", **fields), Config(recipe=recipe, seed=seed))))


def store(root: Path, numbers, experiment: str = "default", error: float = 20.0) -> list[Path]:
    """Return folders of complete runs: seeds 0 to 4 of plain and residual nets of depths 8, 14, 20, ..."""
    paths, decided = [], {}
    for number in numbers:
        depth, shortcut, seed = 8 + 6 * (number // 10), ("none", "A")[number // 5 % 2], number % 5
        if (depth, shortcut) not in decided:
            decided[depth, shortcut] = configuration(depth=depth, shortcut=shortcut)
        config = {**decided[depth, shortcut], "seed": seed}
        result, label = error + depth / 100 + seed / 10, f"net{depth}-{shortcut}-s{seed}"
        paths.append(put(root / experiment, config, label, train_error=result, test_error=result + 1))
    return paths


def rows(root: Path) -> list[dict]:
    """Return the row of each run below `root`."""
    return [record.row for record in list_records([root])]


def _changed(name: str, change) -> object:
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


def _config(**parts) -> object:
    return _changed("config.json", lambda content: json.dumps({**json.loads(content), **parts}).encode())


def _instead(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def _is_a_folder(path: Path) -> None:
    (path / "config.json").unlink()
    (path / "config.json").mkdir()


# (what damages the folder of a complete run, a part of the reason that must be given).
DAMAGES = [
    (_changed("config.json", lambda content: content[:100]), "config.json is damaged"),
    (_changed("status.json", lambda content: content[:-9]), "status.json is damaged"),
    (lambda path: (path / "config.json").unlink(), "config.json"),
    (lambda path: (path / "status.json").unlink(), "status.json is missing"),
    (lambda path: (path / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
    (lambda path: (path / "environment.json").unlink(), "environment.json is missing"),
    (lambda path: shutil.rmtree(path / "checkpoints"), "lacks the final step 33"),
    (_changed("metrics.jsonl", lambda content: content[:-20]), "line 3 is not whole"),
    (_changed("metrics.jsonl", lambda content: content.replace(b"}\n{", b"\n{", 1)), "line 1 is not whole"),
    (_instead, "config.json is damaged"),
    (_changed("config.json", lambda _: b"[]"), "config.json is damaged: it is of another kind"),
    (_config(schema=99), "has schema 99"),
    (_config(seed=77), "does not belong to a run of this name"),
    (_config(model="x"), "model is 'x'"),
    (_config(settings=[1]), "settings is [1]"),
    (_changed("status.json", lambda _: b'{"state": "complete", "test_error": "low"}'), "test_error is 'low'"),
    (_changed("status.json", lambda _: b"\xff\xfe\x00"), "status.json is damaged"),
    (_changed("status.json", lambda _: b"[" * 100_000), "status.json is damaged"),
    (_is_a_folder, "config.json is damaged"),
    (_changed("status.json", lambda _: b'{"step": 33}'), "status.json is damaged: it lacks 'state'"),
    (_changed("config.json", lambda _: b""), "config.json is damaged"),
]  # fmt: skip


def store_many(root: Path) -> dict[str, str]:
    """Store 300 runs, 21 of them damaged; return {id: a part of the reason} of these."""
    paths = store(root, range(300))[5::14][: len(DAMAGES)]
    for path, (damage, _) in zip(paths, DAMAGES, strict=True):
        damage(path)
    return {path.name: reason for path, (_, reason) in zip(paths, DAMAGES, strict=True)}


def record_of(root: Path, *arguments, **options) -> Record:
    """Return the record of a run as `put` stores it."""
    return Record(put(root, *arguments, **options))
