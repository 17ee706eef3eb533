"""On a CPU, scanned blocks and a canonical convolution gradient make deep nets quick to start and to train.

One training step of ResNet-20 (batch 128, 32x32 images) with `nn.Conv`'s automatic gradient and with the canonical one,
unrolled, scanned, and with several steps a call; tracing and compiling ResNet-1202 beside ResNet-20, in processes of
their own; and the time from the command to the first step of ResNet-56, with an empty and a filled compilation cache.

`peers`: a step of eight networks as training runs it, against PyTorch, Keras on JAX and stock Flax, in processes that
take turns (`experiments.peers`).
"""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from classicnets.claims import Claim, Preset, Row, main
from classicnets.claims.criteria import Limits
from classicnets.system.settings import FLAGS
from experiments.peers import WORKS

REPEATS = 3
TURNS = 7


@dataclass(frozen=True)
class Contestant:
    """What takes turns with the others on each network that it has."""

    command: tuple[str, ...]
    """A module of `experiments.peers`, and its options."""
    networks: tuple[str, ...] = tuple(WORKS)
    """Those of WORKS that it has a peer of."""
    flags: int = 0
    """Which value of XLA's flags it has: 0 for ours, 1 for XLA's default."""


CIFAR = ("resnet20", "resnet56")
IN_KERAS = ("alexnet_owt", "vgg11", "resnet50_v1_5", "inception_v3")
IN_FLAX = (*CIFAR, "alexnet_owt", "vgg11", "resnet18", "resnet50_v1_5")
CONTESTANTS = {
    "classicnets": Contestant(("ours",)),
    "PyTorch": Contestant(("pytorch",)),
    "PyTorch, compiled": Contestant(("pytorch", "--compile")),
    "Keras on JAX": Contestant(("keras_jax",), IN_KERAS),
    "stock Flax": Contestant(("stock_flax",), IN_FLAX),
    "stock Flax, XLA's own flags": Contestant(("stock_flax",), IN_FLAX, flags=1),
}
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


def race() -> list[dict]:
    """Return a row a network and contestant: seconds to the end of its first step, and ms a step, by turns.

    All processes of a network live at once, and one at a time works. Raise ValueError if a peer is not installed.
    """
    missing = [package for package in ("keras", "torch", "torchvision") if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(f"preset peers needs {', '.join(missing)}: pip install 'classicnets[peers]'")
    return [row for work in WORKS for row in _raced(work)]


def _raced(work: str) -> list[dict]:
    racing = {name: contestant for name, contestant in CONTESTANTS.items() if work in contestant.networks}
    times: dict[str, list[float]] = {name: [] for name in racing}
    with ExitStack() as stack:
        processes, first = {}, {}
        for name, contestant in racing.items():
            processes[name] = stack.enter_context(_started(work, contestant))
            first[name] = float(_said(processes[name]))
        for _ in range(TURNS + 1):
            for name, process in processes.items():
                print("go", file=process.stdin, flush=True)
                times[name].append(float(_said(process)))
        peaks = {name: int(process.communicate()[0]) for name, process in processes.items()}
    rows = []
    for name, (_, *counted) in times.items():  # the first turn warms up what starting the others has cooled
        row = {"network": work, "contestant": name, "batch": WORKS[work].batch, "side": WORKS[work].side}
        row |= {"median_ms": statistics.median(counted), "least_ms": min(counted), "most_ms": max(counted)}
        rows.append(row | {"n": TURNS, "first_step_s": first[name], "peak_bytes": peaks[name]})
    return rows


@contextmanager
def _started(work: str, contestant: Contestant) -> Iterator[subprocess.Popen]:
    """Hold a contestant's process, without a compilation cache; whatever happens, it ends with the block."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment["XLA_FLAGS"] = " ".join(f"--{name}={values[contestant.flags]}" for name, values in FLAGS.items())
    module, *options = contestant.command
    command = [sys.executable, "-m", f"experiments.peers.{module}", work, *options]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _said(process: subprocess.Popen) -> str:
    """Return the next line of a process; raise RuntimeError if it has ended."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"{process.args} ended with status {process.wait()}")
    return line


def against(rows: Sequence[Row]) -> dict[str, float]:
    """Median of a peer's step over ours of the same network; above 1 we are the faster."""
    median = {(row["network"], row["contestant"]): row["median_ms"] for row in rows}
    return {
        f"{work}, {name} over classicnets": time / median[work, "classicnets"]
        for (work, name), time in median.items()
        if name != "classicnets"
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
    },
)

if __name__ == "__main__":
    main(claim, __file__)
