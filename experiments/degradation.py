"""Claim: with growing depth a plain network fits its training set worse; a residual network does not.

He et al., "Deep residual learning for image recognition", CVPR 2016, sections 1 and 4.2, Figures 1 and 6.

Sweep: CIFAR-style nets of growing depth, shortcut "none" and "A", which have the same parameters; a seed gives
all of them the same order of batches, and the plain and the residual net of a depth the same initial
parameters, bit by bit. Seeds vary initialisation and order, not data. The last step counts, never the best.
A diverged run counts as chance error. Criterion: `classicnets.claims.criteria.Criterion`, on the deepest and
the shallowest nets; the depths between them are secondary, their p-values corrected by Holm's method.

    python -m experiments.degradation [--preset quick] [--runs DIR] [--records DIR]

cold: the 8x8 digits, 20 epochs, without augmentation: in a pilot before the criterion was committed, on seeds
0 and 1 and not recorded, shifts of an 8x8 image kept even the residual net from fitting at depth 56. The
verdict is undecided: some residual-56 nets do not fit.

quick (the default): the same with the cure that section 4.2 gives for a slow start at depth 110, a rate of 0.01 at
first, here for 2 epochs, and on seeds that `cold` did not use; the criterion is the same. The change was
chosen after the first training of `cold` (under NUMERICS 1), by retraining the two seeds whose residual-56 net
had failed there. The budget of both is short: their sentence is "at this budget, deeper plain nets fit worse".

depths: `quick` with two depths more, whose runs are the same runs.

controls: does the gap survive tuning and time? The nets of `quick` at 1, 2 and 4 times its epochs and rates
0.1, 0.02 and 0.01, on seeds that neither used, by running and by batch statistics.
Criterion: `classicnets.claims.criteria.SurvivalCriterion`.

fashion: 10,000 real 28x28 images of Fashion-MNIST, half width, 8 epochs. The length was chosen for its time, after a
pilot on seed 100 (train error: residual-20 7.7, residual-56 7.2, plain-56 19.8 %).

paper: section 4.2 itself, on CIFAR-10 with all 50,000 training images, for 64,000 iterations.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from classicnets.claims.criteria import Criterion, SurvivalCriterion, holm, paired_p
from classicnets.data import DataConfig
from classicnets.report.page import Curve, Table, Verdict, page
from classicnets.training.config import Config, Execution, Recipe

SHORTCUTS = {"none": "plain", "A": "residual"}


@dataclass(frozen=True)
class Preset:
    """One sweep: recipes x depths x shortcuts x seeds. Nets from depth `warm_from` on start with 400 steps at 0.01."""

    sentence: str
    data: DataConfig
    recipes: dict[str, Recipe]
    depths: tuple[int, ...] = (20, 56)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    width: float = 1.0
    warm_from: int | None = None
    evaluate_every: int = 2

    def every_key(self) -> list[tuple[str, str, int, int]]:
        """(recipe, shortcut, depth, seed) of every run."""
        return [(r, s, d, n) for r in self.recipes for d in self.depths for s in SHORTCUTS for n in self.seeds]

    def recipe(self, name: str, depth: int) -> Recipe:
        warm = self.warm_from is not None and depth >= self.warm_from
        return replace(self.recipes[name], warmup_steps=400, warmup_rate=0.01) if warm else self.recipes[name]


SHORT = "at this budget, deeper plain nets fit worse"
COLD = Recipe(epochs=20, batch_size=128, learning_rate=0.1, schedule="cosine", weight_decay=1e-4)
WARM = replace(COLD, warmup_steps=22, warmup_rate=0.01)
DIGITS = DataConfig("digits", augment=False)
QUICK = Preset(SHORT, DIGITS, {"warm": WARM}, seeds=(10, 11, 12, 13, 14))
PRESETS = {
    "cold": Preset(SHORT, DIGITS, {"cold": COLD}),
    "quick": QUICK,
    "depths": replace(QUICK, depths=(20, 32, 44, 56)),
    "controls": Preset(
        "the gap between plain and residual nets survives other rates and more epochs",
        DIGITS,
        {
            f"{budget}x, rate {rate}": replace(WARM, epochs=20 * budget, learning_rate=rate)
            for budget in (1, 2, 4)
            for rate in (0.1, 0.02, 0.01)
        },
        seeds=(20, 21, 22),
        evaluate_every=20,
    ),
    "fashion": Preset(
        SHORT,
        DataConfig("fashion_mnist", train_size=10_000, augment=False),
        {"warm": replace(COLD, epochs=8, warmup_steps=156, warmup_rate=0.01)},
        width=0.5,
        evaluate_every=4,
    ),
    "paper": Preset(
        "deeper plain nets fit worse, and deeper residual nets do not",
        DataConfig("cifar10", validation_size=0, normalise="pixel"),
        {"paper": replace(COLD, steps=64_000, schedule="step", boundaries=(32_000, 48_000))},
        depths=(20, 32, 44, 56, 110),
        warm_from=110,
    ),
}


def train_one(preset: Preset, key, runs: Path, progress=None):
    """The run of one key, trained where it is not done."""
    from classicnets.data import load
    from classicnets.models import create
    from classicnets.training import train

    name, shortcut, depth, seed = key
    classes = load(preset.data).classes
    return train(
        create("cifar_resnet", depth=depth, shortcut=shortcut, width=preset.width, num_classes=classes),
        Config(preset.data, preset.recipe(name, depth), seed),
        runs=runs,
        experiment="degradation",
        name=f"{SHORTCUTS[shortcut]}{depth}-{preset.data.dataset}-s{seed}",
        execution=Execution(evaluate_every=preset.evaluate_every, keep_best=False),  # the claim is about the last step
        progress=progress,
    )


def result(key, run, classes: int) -> dict:
    """One row of the record."""
    status, environment = run.status, run.environment[-1]
    chance = 100 * (1 - 1 / classes) if status["state"] == "diverged" else None
    errors = ("train_error", "validation_error", "test_error", "train_error_batch_statistics")
    return {
        "run": run.id,
        **dict(zip(("recipe", "shortcut", "depth", "seed"), key, strict=True)),
        "state": status["state"],
        **{name: status.get(name, chance) for name in errors},
        "parameters_sha256": status.get("parameters_sha256"),
        "environment": {
            k: environment[k] for k in ("commit", "uncommitted_sha256", "python", "versions", "cores", "devices")
        },
    }


def verdict(preset: Preset, results: list[dict]) -> dict:
    """The outcome and the D's of the rows of `result`."""
    shallow, *between, deep = sorted(preset.depths)

    def d(recipe: str, kind: str, depth: int, error: str = "train_error") -> list[float]:
        found = {
            (r["depth"], r["seed"]): r[error]
            for r in results
            if r["recipe"] == recipe and SHORTCUTS[r["shortcut"]] == kind
        }
        return [found[depth, seed] - found[shallow, seed] for seed in preset.seeds]

    facts = {"sentence": preset.sentence, "n": len(preset.seeds), "depths": [shallow, deep]}
    diverged = [r["run"] for r in results if r["state"] == "diverged"]
    if len(preset.recipes) > 1:
        conditions = {
            recipe: {
                "D_plain": d(recipe, "plain", deep),
                "D_residual": d(recipe, "residual", deep),
                **{f"gap_{kind}": _gaps(d, recipe, deep, error) for kind, error in STATISTICS.items()},
            }
            for recipe in preset.recipes
        }
        criterion = SurvivalCriterion()
        outcome = criterion.judge(*([c[f"gap_{kind}"] for c in conditions.values()] for kind in STATISTICS))
        facts |= {"conditions": conditions}
    else:
        (recipe,) = preset.recipes
        facts |= {"D_plain": d(recipe, "plain", deep), "D_residual": d(recipe, "residual", deep)}
        criterion = Criterion()
        outcome = criterion.judge(facts["D_plain"], facts["D_residual"])
        ds = {str(depth): [d(recipe, kind, depth) for kind in SHORTCUTS.values()] for depth in between}
        p = holm({depth: paired_p(*pair) for depth, pair in ds.items()})
        facts |= {"secondary": {k: {"D_plain": a, "D_residual": b, "p_holm": p[k]} for k, (a, b) in ds.items()}}
    digest = hashlib.sha256((repr(criterion) + inspect.getsource(type(criterion))).encode()).hexdigest()
    facts |= {"criterion": criterion.facts(), "criterion_sha256": digest, "diverged": diverged}
    return {"outcome": outcome, **facts, "commit": results[0]["environment"]["commit"]}


STATISTICS = {"running": "train_error", "batch": "train_error_batch_statistics"}


def _gaps(d, recipe: str, depth: int, error: str) -> list[float]:
    pairs = zip(d(recipe, "plain", depth, error), d(recipe, "residual", depth, error), strict=True)
    return [plain - residual for plain, residual in pairs]


def table(preset_name: str, results: list[dict], judged: dict, paged: bool) -> str:
    """The record's README: the verdict and every raw number; paged: whether page.html lies beside it."""
    preset = PRESETS[preset_name]
    lines = [
        f"# Degradation, {preset_name}: {judged['outcome']}",
        "",
        f"Claim: {judged['sentence']}. {judged['outcome'].capitalize()} (n = {judged['n']} seeds).",
        "The last step counts.",
        "Errors in percent. *batch* is the train error when batch norm uses each batch's own statistics.",
        *(["[Every run's curves](page.html), on one page with these tables."] if paged else []),
        "",
        "![training and test error against iteration](figure.svg)",
        "",
        f"    {_command(preset_name)}",
        "",
        _origin(results),
        f"Data {json.dumps(asdict(preset.data))}. Width {preset.width}.",
        *(f"Recipe {name}: {json.dumps(asdict(recipe))}." for name, recipe in preset.recipes.items()),
        "",
    ]
    for found in tables(preset, results, judged):
        lines += [f"{found.title}:", "", *_markdown(found), ""]
    return "\n".join(lines).rstrip() + "\n"


def record_page(preset_name: str, results: list[dict], judged: dict, logs: Mapping[str, Mapping]) -> str:
    """The record's page.html; logs: the id of a run -> what `classicnets.report.comparison.series` tells of it."""
    preset = PRESETS[preset_name]
    criterion = SurvivalCriterion if "conditions" in judged else Criterion
    bounds = ", ".join(f"{name} = {bound:g}" for name, bound in judged["criterion"].items())
    said = [*_differences(judged), f"{' '.join(str(criterion.__doc__).split())} Here {bounds}."]
    kinds = {r["run"]: f"{SHORTCUTS[r['shortcut']]}-{r['depth']}" for r in results}
    recipes = {r["run"]: f", {r['recipe']}" if len(preset.recipes) > 1 else "" for r in results}
    return page(
        f"Degradation, {preset_name}",
        verdicts=[Verdict(judged["outcome"], f"{judged['sentence']} (n = {judged['n']} seeds)", "\n".join(said))],
        warnings=[f"{run} diverged and counts as chance error" for run in judged["diverged"]],
        curves=[Curve(run, kind + recipes[run], None, logs[run]) for run, kind in kinds.items()],
        tables=tables(preset, results, judged),
        written=f"{_command(preset_name)}. {_origin(results)}",
    )


def tables(preset: Preset, results: list[dict], judged: dict) -> list[Table]:
    """D a seed, that of the depths between, and the raw numbers of every run."""
    shallow, deep = judged["depths"]
    title = f"D, the train error at depth {deep} minus that at depth {shallow}, in points"
    if "conditions" in judged:
        columns = ("D_plain", "D_residual", "gap_running", "gap_batch")
        rows = [
            [name, seed, *(condition[c][i] for c in columns)]
            for name, condition in judged["conditions"].items()
            for i, seed in enumerate(preset.seeds)
        ]
        found = [Table(title, ["recipe", "seed", "D plain", "D residual", "gap", "gap, batch"], rows)]
    else:
        rows = [list(row) for row in zip(preset.seeds, judged["D_plain"], judged["D_residual"], strict=True)]
        found = [Table(title, ["seed", "D plain", "D residual"], rows)]
    if judged.get("secondary"):
        rows = [
            [depth, *(sum(row[k]) / judged["n"] for k in ("D_plain", "D_residual")), f"{row['p_holm']:.4f}"]
            for depth, row in judged["secondary"].items()
        ]
        head = ["depth", "mean D plain", "mean D residual", "p, Holm"]
        found.append(Table("Secondary depths, against the shallowest", head, rows))
    errors = ("train_error", "test_error", "train_error_batch_statistics")
    rows = [
        [r["run"], r["recipe"], SHORTCUTS[r["shortcut"]], r["depth"], r["seed"], *(r[e] for e in errors), r["state"]]
        for r in results
    ]
    head = ["run", "recipe", "net", "depth", "seed", "train", "test", "batch", "state"]
    note = "Errors in percent after the last step; batch: when batch norm uses each batch's own statistics."
    return [*found, Table("Every run", head, rows, note)]


def _command(preset_name: str) -> str:
    return f"python -m experiments.degradation --preset {preset_name}"


def _origin(results: list[dict]) -> str:
    """The commits of the runs, and the machine and the versions of the first."""
    environment = results[0]["environment"]
    commits = sorted({str(r["environment"]["commit"])[:12] for r in results})
    return (
        f"Commit {', '.join(commits)}; {environment['cores']} cores, {len(environment['devices'])} device"
        f" ({environment['devices'][0]}), Python {environment['python']}, jax {environment['versions']['jax']}."
    )


def _differences(judged: dict) -> list[str]:
    """One line a condition."""
    lines = []
    for name, condition in judged.get("conditions", {"": judged}).items():
        ds = [f"D {kind} {', '.join(f'{d:.2f}' for d in condition[f'D_{kind}'])}" for kind in SHORTCUTS.values()]
        lines.append(f"{name + ': ' if name else ''}{'; '.join(ds)} points of train error")
    return lines


def _markdown(table: Table) -> list[str]:
    """Floats with two decimals."""
    cells = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (table.columns, ["---"] * len(table.columns), *cells)]


def draw(path: Path, preset: Preset, found: dict, judged: dict) -> None:
    """Two panels: plain and residual curves, or, for several recipes, the gap by both kinds of statistics."""
    from classicnets.report.figures import ranges, training_curves

    if "conditions" in judged:
        panels = {
            f"{kind} statistics": {
                f"rate {rate}": {
                    recipe.epochs: judged["conditions"][name][f"gap_{kind}"]
                    for name, recipe in preset.recipes.items()
                    if recipe.learning_rate == rate
                }
                for rate in sorted({recipe.learning_rate for recipe in preset.recipes.values()}, reverse=True)
            }
            for kind in STATISTICS
        }
        ranges(path, panels, "epochs", "gap in train error (points)")
        return
    (recipe,) = preset.recipes
    logs = {
        kind: {f"{kind}-{d}": [found[recipe, s, d, seed].metrics for seed in preset.seeds] for d in preset.depths}
        for s, kind in SHORTCUTS.items()
    }
    training_curves(path, logs)


def run(preset_name: str, runs: Path, records: Path) -> None:
    """Train what is missing, judge, and write the record."""
    from classicnets.data import load
    from classicnets.report.comparison import series
    from classicnets.report.progress import Bar
    from classicnets.system.caches import use_cache

    preset = PRESETS[preset_name]
    classes = load(preset.data).classes
    use_cache()
    folder = records / preset_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"records cannot be written to {str(folder)!r}: {error.strerror}") from None
    found, results = {}, []
    with Bar() as bar:
        for key in preset.every_key():
            found[key] = train_one(preset, key, runs, bar)
            results.append(result(key, found[key], classes))
            bar.note(
                f"{len(found)}/{len(preset.every_key())} {found[key].id}: train {results[-1]['train_error']:.2f} %"
            )
    judged = verdict(preset, results)
    (folder / "runs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results), encoding="utf-8")
    named = [{"run": run.id, "facts": run.facts} for run in found.values()]
    (folder / "facts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in named), encoding="utf-8")
    (folder / "verdict.json").write_text(json.dumps(judged, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(table(preset_name, results, judged, paged=True), encoding="utf-8")
    logs = {run.id: series(run) for run in found.values()}
    (folder / "page.html").write_text(record_page(preset_name, results, judged, logs), encoding="utf-8")
    draw(folder / "figure.svg", preset, found, judged)
    print(f"{judged['outcome']} (n = {judged['n']}): {judged['sentence']}")
    print("\n".join(_differences(judged)))
    print(f"figure: {folder / 'figure.svg'}\nrecord: {folder}")


@dataclass(frozen=True)
class Options:
    """Train what is missing of a preset, judge, and write its record."""

    preset: str = "quick"
    """Name of the preset."""
    runs: Path = Path("runs")
    """Directory below which runs are kept."""
    records: Path = Path("experiments/records/degradation")
    """Directory of the records."""


def main(arguments: list[str]) -> int:
    from classicnets.cli.options import parse

    options = parse(Options, arguments, "python -m experiments.degradation")
    if options.preset not in PRESETS:
        raise ValueError(f"unknown preset {options.preset!r}; choose from {', '.join(PRESETS)}")
    run(options.preset, options.runs, options.records)
    return 0


if __name__ == "__main__":
    from classicnets.cli import main as cli

    sys.exit(cli.answer("experiments.degradation", main, sys.argv[1:]))
