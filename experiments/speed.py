"""On a CPU, scanned blocks and a canonical convolution gradient make deep nets quick to start and to train.

One training step of ResNet-20 (batch 128, 32x32 images) with `nn.Conv`'s automatic gradient and with the canonical one,
unrolled, scanned, and with several steps a call; tracing and compiling ResNet-1202 beside ResNet-20, in processes of
their own; and the time from the command to the first step of ResNet-56, with an empty and a filled compilation cache.

`peers`: a step of eight networks as training runs it, against PyTorch, Keras on JAX and stock Flax, in processes that
take turns (`experiments.peers`). `sweep`: the quick degradation sweep from command to verdict, against PyTorch.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from classicnets.claims import Claim, Preset, Row, main
from classicnets.claims.criteria import Limits
from experiments.peers import WORKS
from experiments.peers.race import CIFAR, IN_FLAX, IN_KERAS, race, sweeps

REPEATS = 3


COMPILE = """
import sys, time
from classicnets.training.benchmark import compiled_step
from classicnets.models import create
compiled_step(create("cifar_resnet", depth=8), 8, 8)  # what is compiled once for any net
began = time.perf_counter()
compiled_step(create("cifar_resnet", depth=int(sys.argv[1])), 128, 32)
print(time.perf_counter() - began)
"""


def compile_seconds(depth: int) -> float:
    """Initialising, tracing and compiling one training step in a new process without a cache."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    words = [sys.executable, "-c", COMPILE, str(depth)]
    return float(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def seconds_to_first_step(cache: str) -> float:
    """From starting `classicnets train cifar_resnet --depth 56` to its first step, when it begins to save it."""
    with tempfile.TemporaryDirectory() as runs:
        options = {"depth": 56, "epochs": 1, "steps-per-dispatch": 1, "checkpoint-seconds": 0, "runs": runs}
        words = ["train", "cifar_resnet", *(f"--{name}={value}" for name, value in options.items())]
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        began = time.perf_counter()
        command = [sys.executable, "-m", "classicnets", *words]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            while not any(Path(runs).glob("*/*/checkpoints/*1")):
                if process.poll() is not None:
                    raise RuntimeError("the run ended before its first step")
                time.sleep(0.01)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


def measure() -> list[dict]:
    """Return median, least and most of n of every time, in ms a step or in seconds."""
    from classicnets.models import create
    from classicnets.training.benchmark import bench

    seconds = {f"compile, depth {depth} (s)": [compile_seconds(depth) for _ in range(REPEATS)] for depth in (20, 1202)}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                seconds.setdefault(f"first step, {state} cache (s)", []).append(seconds_to_first_step(cache))
    rows = [
        {"case": f"{row['case']} (ms)", "median": row["median_ms"], "least": row["min_ms"], "most": row["max_ms"]}
        | {"n": row["n"]}
        for row in bench(create("cifar_resnet", depth=20))
    ]
    return rows + [
        {"case": case, "median": statistics.median(times), "least": min(times), "most": max(times), "n": REPEATS}
        for case, times in seconds.items()
    ]


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Ratios of medians, and medians in seconds.

    The single-step forms pay for their memory on every call (on Linux, a page fault for each 4 KiB of some 250 MB of
    activations); several steps a call pay once, which is how training runs. The automatic gradient has no such form: in
    a loop it is many times slower. So beside the limit on equal forms stands one for the forms that each is used in.
    """
    median = {row["case"]: row["median"] for row in rows}
    unrolled, fused = median["auto, unrolled (ms)"], median["auto, scanned, 4 steps fused (ms)"]
    return {
        "automatic over canonical, unrolled, one step a call": median["lax, unrolled (ms)"] / unrolled,
        "automatic unrolled over canonical scanned and fused": median["lax, unrolled (ms)"] / fused,
        "scanned and fused over unrolled": fused / unrolled,
        "compile, depth 1202 over depth 20": median["compile, depth 1202 (s)"] / median["compile, depth 20 (s)"],
        **{f"command to first step, {c} (s)": median[f"first step, {c} cache (s)"] for c in ("cold", "warm")},
    }


def against(rows: Sequence[Row]) -> dict[str, float]:
    """Median of a peer's step over ours of the same network; above 1 we are the faster."""
    median = {(row["network"], row["contestant"]): row["median_ms"] for row in rows}
    return {
        f"{work}, {name} over classicnets": time / median[work, "classicnets"]
        for (work, name), time in median.items()
        if name != "classicnets"
    }


def of_sweeps(rows: Sequence[Row]) -> dict[str, float]:
    """PyTorch's median time over ours: of wall, judged, and of the processors."""

    def median(name: str, unit: str) -> float:
        return statistics.median(row[unit] for row in rows if row["contestant"] == name)

    units = {"wall time": "wall_s", "processor time": "processor_s"}
    return {
        f"{what}, PyTorch over classicnets": median("PyTorch", unit) / median("classicnets", unit)
        for what, unit in units.items()
    }


LEAST = {
    **{f"{work}, PyTorch over classicnets": ">= 1" if work in CIFAR else ">= 0.95" for work in WORKS},
    **{f"{work}, Keras on JAX over classicnets": ">= 1.2" for work in IN_KERAS},
    **{f"{work}, stock Flax over classicnets": ">= 1.2" if work in CIFAR else ">= 1.1" for work in IN_FLAX},
}

claim = Claim(
    name="speed",
    sentence="scanned blocks and the canonical gradient are quick on a CPU",
    source="this project",
    statistic=ratios,
    criterion=Limits(
        {
            "automatic over canonical, unrolled, one step a call": ">= 1.4",
            "automatic unrolled over canonical scanned and fused": ">= 1.4",
            "scanned and fused over unrolled": "<= 1.15",
            "compile, depth 1202 over depth 20": "<= 2",
            "command to first step, cold (s)": "<= 15",
            "command to first step, warm (s)": "<= 6",
        }
    ),
    presets={
        "cpu": Preset(measure=measure, note="ResNet-20 at 32x32, batch 128; ResNet-1202 and ResNet-56."),
        "peers": Preset(
            measure=race,
            sentence="a training step on a CPU takes no longer than PyTorch's, and less than Keras's and stock Flax's",
            note="Ours is what `classicnets train` runs: augmentation of images that change, checks of all values and "
            "sums of errors; the peers' is a step alone, on fixed images. Keras's ResNet-50 has its strides in the 1x1 "
            "convolutions, fewer operations. Keras and stock Flax have XLA's flags that ours has; stock Flax is raced "
            "without them too.",
            statistic=against,
            criterion=Limits(LEAST),
        ),
        "sweep": Preset(
            measure=sweeps,
            sentence="on a CPU the quick degradation sweep takes no more than two thirds of its time in PyTorch",
            note="From the command to the verdict, with an empty compilation cache. PyTorch has a process of one "
            "thread for each core, and saves and logs nothing; ours saves, logs and can be resumed.",
            statistic=of_sweeps,
            criterion=Limits({"wall time, PyTorch over classicnets": ">= 1.5"}),
        ),
    },
)

if __name__ == "__main__":
    main(claim, __file__)
