"""Claim: on a CPU, scanned blocks and a canonical convolution gradient make deep nets quick to start and to train.

Sweep: one training step of ResNet-20 (batch 128, 32x32 images) with `nn.Conv`'s automatic gradient and with the
canonical one, unrolled, scanned, and with several steps a call (`classicnets.training.benchmark`); tracing and
compiling ResNet-1202 beside ResNet-20, in processes of their own; and the time from the command to the first step of
ResNet-56, with an empty and with a filled compilation cache.

Bounds, one number each, of medians: see `BOUNDS`. A bound that is missed is reported as missed.

    python -m experiments.speed [--records DIR]

The single-step forms pay for their memory on every call (on Linux, a page fault for each 4 KiB of some 250 MB of
activations); several steps a call pay once, which is how training runs. The automatic gradient has no such form: in a
loop it is many times slower. So beside the bound on equal forms (missed when it was first measured, at 1.29) stands a
figure for the forms that each would be used in.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BOUNDS = {
    "automatic over canonical, unrolled, one step a call": (">=", 1.4),
    "automatic unrolled over canonical scanned and fused": (">=", 1.4),
    "scanned and fused over unrolled": ("<=", 1.15),
    "trace and compile, depth 1202 over depth 20": ("<=", 2.0),
    "command to first step, cold cache (s)": ("<=", 15.0),
    "command to first step, warm cache (s)": ("<=", 6.0),
}
COMPILE = """
import sys, time, jax
from classicnets.training.benchmark import compiled_step
from classicnets.models import create
compiled_step(create("cifar_resnet", depth=8), 8, 8)  # what is compiled once for any net
began = time.perf_counter()
compiled_step(create("cifar_resnet", depth=int(sys.argv[1])), 128, 32)
print(time.perf_counter() - began)
"""


def compile_seconds(depth: int) -> float:
    """Initialising, tracing and compiling one training step in a new process without a cache."""
    words = [sys.executable, "-c", COMPILE, str(depth)]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return float(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def seconds_to_first_step(cache: Path) -> float:
    """From starting `classicnets train cifar_resnet --depth 56` to its first step, when it begins to save it."""
    with tempfile.TemporaryDirectory() as runs:
        options = {"depth": 56, "epochs": 1, "steps-per-dispatch": 1, "checkpoint-seconds": 0, "runs": runs}
        words = ["train", "cifar_resnet", *(f"--{name}={value}" for name, value in options.items())]
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "classicnets.cli.main", *words], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            while not any(Path(runs).glob("*/*/checkpoints/*1")):
                if process.poll() is not None:
                    raise RuntimeError("the run ended before its first step")
                time.sleep(0.01)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


def measure(repeats: int = 3) -> dict:
    from classicnets.models import create
    from classicnets.system.environment import environment
    from classicnets.training.benchmark import bench

    where = environment()
    steps = {row["case"]: row for row in bench(create("cifar_resnet", depth=20))}
    compiled = {depth: [compile_seconds(depth) for _ in range(repeats)] for depth in (20, 1202)}
    starts = {"cold": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for kind in starts:
                starts[kind].append(seconds_to_first_step(Path(cache)))
    return {
        "steps": list(steps.values()),
        "compile_seconds": compiled,
        "first_step_seconds": starts,
        "environment": {
            k: where[k] for k in ("commit", "uncommitted_sha256", "python", "versions", "cores", "devices")
        },
    }


def verdict(found: dict) -> list[dict]:
    """A row a bound: its figure, whether it holds, and the range of what it was made from."""
    ms = {row["case"]: row["median_ms"] for row in found["steps"]}
    middle = {k: statistics.median(v) for k, v in found["compile_seconds"].items()}
    unrolled, fused = ms["auto, unrolled"], ms["auto, scanned, 4 steps fused"]
    figures = [
        ms["lax, unrolled"] / unrolled,
        ms["lax, unrolled"] / fused,
        fused / unrolled,
        middle["1202"] / middle["20"],
        *(statistics.median(found["first_step_seconds"][kind]) for kind in ("cold", "warm")),
    ]
    return [
        {"bound": f"{name} {sign} {bound:g}", "figure": figure, "holds": (figure >= bound) == (sign == ">=")}
        for (name, (sign, bound)), figure in zip(BOUNDS.items(), figures, strict=True)
    ]


def table(found: dict) -> str:
    """The record's README."""
    where, rows = found["environment"], verdict(found)
    spread = {
        **{f"compile, depth {depth} (s)": v for depth, v in found["compile_seconds"].items()},
        **{f"first step, {kind} cache (s)": v for kind, v in found["first_step_seconds"].items()},
    }
    lines = [
        f"# Speed on a CPU: {sum(row['holds'] for row in rows)} of {len(rows)} bounds hold",
        "",
        "    python -m experiments.speed",
        "",
        f"Commit {str(where['commit'])[:12]}; {where['cores']} cores, {where['devices'][0]}, Python {where['python']},"
        f" jax {where['versions']['jax']}.",
        "",
        "| bound, of medians | figure | |",
        "|---|---|---|",
        *(f"| {row['bound']} | {row['figure']:.2f} | {'holds' if row['holds'] else 'missed'} |" for row in rows),
        "",
        "One training step of ResNet-20, batch 128, 32x32 images:",
        "",
        "| form | ms a step, median | least | most | n |",
        "|---|---|---|---|---|",
        *(
            f"| {row['case']} | {row['median_ms']:.0f} | {row['min_ms']:.0f} | {row['max_ms']:.0f} | {row['n']} |"
            for row in found["steps"]
        ),
        "",
        "| | median | least | most | n |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(v):.2f} | {min(v):.2f} | {max(v):.2f} | {len(v)} |"
            for name, v in spread.items()
        ),
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Options:
    """Measure the speed of this machine, and write the record."""

    records: Path = Path("experiments/records/speed")
    """Directory of the record."""


def main(arguments: list[str]) -> int:
    from classicnets.cli.options import parse

    options = parse(Options, arguments, "python -m experiments.speed")
    found = json.loads(json.dumps(measure()))
    options.records.mkdir(parents=True, exist_ok=True)
    (options.records / "measurements.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.records / "README.md").write_text(table(found), encoding="utf-8")
    for row in verdict(found):
        print(f"{'holds ' if row['holds'] else 'missed'} {row['bound']}: {row['figure']:.2f}")
    print(f"record: {options.records}")
    return 0


if __name__ == "__main__":
    from classicnets.cli import main as cli

    sys.exit(cli.answer("experiments.speed", main, sys.argv[1:]))
