"""Contestants that take turns: a step of each network, and the quick degradation sweep from command to verdict."""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from classicnets.system.settings import FLAGS
from experiments.peers import WORKS

TURNS, SWEEPS = 5, 3


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
SWEEPERS = {
    "classicnets": ("experiments.degradation", "--preset", "quick", "--json"),
    "PyTorch": ("experiments.peers.degradation",),
}


def race() -> list[dict]:
    """Return a row a network and contestant: seconds to the end of its first step, and ms a step, by turns.

    All processes of a network live at once, and one at a time works. Raise ValueError if a peer is not installed.
    """
    _require_installed("keras", "torch", "torchvision")
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
    flags = " ".join(f"--{name}={values[contestant.flags]}" for name, values in FLAGS.items())
    environment = {**_without_cache(), "XLA_FLAGS": flags}
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


def sweeps() -> list[dict]:
    """Return a row a turn and contestant: seconds of wall and of processors from the command to the verdict.

    Each has an empty compilation cache and no runs. Raise ValueError if PyTorch is not installed.
    """
    _require_installed("torch")
    rows = []
    for turn in range(SWEEPS):
        for name, words in SWEEPERS.items():
            with tempfile.TemporaryDirectory() as folder:
                environment = {**_without_cache(), "XDG_CACHE_HOME": folder}
                command = [sys.executable, "-m", *words]
                if name == "classicnets":
                    command += ["--runs", f"{folder}/runs"]
                before, began = _processor_seconds(), time.perf_counter()
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                wall = time.perf_counter() - began
            row = {"turn": turn, "contestant": name, "wall_s": wall, "processor_s": _processor_seconds() - before}
            rows.append(row | {"outcome": json.loads(done.stdout)["outcome"]})
    return rows


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _require_installed(*packages: str) -> None:
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise ValueError(f"a race with peers needs {', '.join(missing)}: pip install 'classicnets[peers]'")


def _without_cache() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
