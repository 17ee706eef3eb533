"""What a training step takes: its time in the forms that can be chosen and on a run's own data, and its memory."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from classicnets.data import DataConfig, Dataset
from classicnets.data.dataset import View
from classicnets.system.environment import peak_resident_bytes
from classicnets.system.settings import pinned
from classicnets.training.config import Config, Execution, Recipe
from classicnets.training.initial import initial_variables
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.step import TrainState

# Steps of a call in the form that training uses.
FUSED = 4
# Measurements that are made however long they take.
FEWEST = 3
# Seconds that the timed steps of a probe take at least.
LONG_ENOUGH = 0.3


@dataclass(frozen=True)
class Case:
    """Something to be timed. make: returns the call, which makes `steps` steps; compiling counts as making."""

    make: Callable[[], Callable[[], Any]]
    steps: int = 1


@dataclass(frozen=True)
class Cost:
    """Seconds of a step and of an evaluation of everything, and of a start: loading the programs of both from a cache.

    Where no cache is in use (`caches.use_cache`), a start compiles them.
    """

    step: float
    evaluation: float
    start: float
    steps_per_epoch: int

    def of(self, config: Config, execution: Execution) -> float:
        """Return the seconds of a whole run, without its start and checkpoints."""
        steps = config.recipe.total_steps(self.steps_per_epoch)
        evaluations = -(-steps // (self.steps_per_epoch * execution.evaluate_every))
        return self.step * steps + self.evaluation * evaluations


@pinned()
def bench(model: Any, batch_size: int = 128, image_size: int = 32, repeats: int = 9) -> list[dict]:
    """Milliseconds of a training step on random images [batch_size, image_size, image_size, 3], a row a form.

    lax: `nn.Conv` with the automatic gradient; auto: the method chosen for this device, where the network has `conv`.
    unrolled, scanned: repeated blocks one by one or in a loop, where it has `unroll`. fused: several steps a call, as
    training runs. Every form is called twice before it is timed, and then all of them in turn.
    """
    cases = {
        case: Case(lambda form=form, steps=steps: _stepping(form, batch_size, image_size, steps), steps)
        for case, (form, steps) in _forms(model).items()
    }
    return measured(cases, repeats)


@pinned()
def measured(cases: Mapping[str, Case], repeats: int = 9, seconds: float = float("inf")) -> list[dict]:
    """Return a row a case: milliseconds a step, by median, least, most, mean and deviation, and how it was compiled.

    Each case is called twice before it is timed, then all of them in turn, `repeats` times, or as often, but at least
    FEWEST times, as `seconds` allow for all of them together.
    """
    calls, compiling, peaks, times = {}, {}, {}, {case: [] for case in cases}
    for case, made in cases.items():
        before, began = _memory(), time.perf_counter()
        calls[case] = made.make()
        calls[case]()
        compiling[case] = time.perf_counter() - began
        peaks[case] = risen(before, _memory())
    began = time.perf_counter()
    for turn in range(repeats + 1):
        for case, call in calls.items():
            started = time.perf_counter()
            call()
            times[case].append(1e3 * (time.perf_counter() - started) / cases[case].steps)
        if turn >= FEWEST and time.perf_counter() - began > seconds:
            break
    rows = []
    for case, of in times.items():
        counted = of[1:]
        deviation = statistics.stdev(counted) if len(counted) > 1 else 0.0
        rows.append(
            {
                "case": case,
                "median_ms": statistics.median(counted),
                "min_ms": min(counted),
                "max_ms": max(counted),
                "mean_ms": statistics.fmean(counted),
                "deviation_ms": deviation,
                "n": len(counted),
                "compile_seconds": compiling[case],
                "peak_bytes": peaks[case],
                "device": jax.devices()[0].device_kind,
            }
        )
    return rows


def forward_case(model: Any, batch_size: int, image_size: int) -> Case:
    """Return the forward pass in evaluation mode on random images [batch_size, image_size, image_size, 3]."""

    def make() -> Callable[[], None]:
        images = jax.random.normal(jax.random.key(0), (batch_size, image_size, image_size, 3))
        variables = jax.device_put(initial_variables(model, 1, (image_size, image_size, 3)))
        apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
        return lambda: jax.block_until_ready(apply(variables, images))

    return Case(make)


def step_case(model: Any, batch_size: int, image_size: int) -> Case:
    """Return one training step, forward and backward, on random images."""
    return Case(lambda: _stepping(model, batch_size, image_size, 1))


def risen(before: Mapping[str, int], after: Mapping[str, int]) -> int | None:
    """Return the most bytes that something took at once, by what a device tells `before` and `after` it.

    A device knows the peak since the process began: None where that was higher before, or where nothing is told.
    """
    peaks = [stats.get("peak_bytes_in_use") for stats in (before, after)]
    if peaks[0] is None or peaks[1] is None or peaks[1] <= peaks[0]:
        return None
    return peaks[1] - before.get("bytes_in_use", 0)


def _memory() -> Mapping[str, int]:
    return jax.local_devices()[0].memory_stats() or {}


def _stepping(model: Any, batch_size: int, image_size: int, steps: int) -> Callable[[], None]:
    call, state = compiled_step(model, batch_size, image_size, steps)
    held = [state]

    def step() -> None:
        held[0] = jax.block_until_ready(call(held[0]))

    return step


def compiled_step(
    model: Any, batch_size: int, image_size: int, steps: int = 1
) -> tuple[Callable[[TrainState], TrainState], TrainState]:
    """Return (call, state): `state = call(state)` makes `steps` training steps of `model` on one device.

    The first call compiles. One step a call has no loop around it.
    """
    trainer = _trainer(model, batch_size, image_size, steps)
    state = trainer.initial_state(0)
    if steps == 1:
        return lambda state: trainer.train_one(state, 0), state
    return lambda state: trainer.train(state, 0, steps), state


@pinned()
def started(model: Any, batch_size: int, image_size: int) -> dict[str, float]:
    """Return the seconds from nothing to a first training step: what is drawn, traced, compiled and run."""
    jax.clear_caches()  # of what another network has in common with this one
    trainer = _trainer(model, batch_size, image_size, 1)
    drawing, state = timed(trainer.initial_state, 0)
    tracing, lowered = timed(trainer.lowered, state, 0)
    compiling, _ = timed(lowered.compile)
    running, _ = timed(trainer.train_one, state, 0)
    return {"draw": drawing, "trace": tracing, "compile": compiling, "step": running}


def _trainer(model: Any, batch_size: int, image_size: int, steps: int, channels: int = 3) -> Trainer:
    rng, classes, count = np.random.default_rng(0), model.num_classes or 10, batch_size * max(steps, FUSED)
    dataset = Dataset(
        images=rng.integers(0, 256, (count, image_size, image_size, channels), np.uint8),
        labels=np.arange(count, dtype=np.int32) % classes,
        sizes={"train": count},
        class_names=tuple(map(str, range(classes))),
        crop_padding=4,
        view=View("shift", image_size, (image_size, image_size), True, "none", image_size),
        sha256="",
    )
    return Trainer(model, Recipe(batch_size=batch_size), dataset, DataConfig(), jax.local_devices()[:1])


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes: arrays of a step on one device, and the process in all (None but on a CPU)."""

    arrays: int
    process: int | None


@pinned()
def training_memory(model: Any, batch_size: int, shape: tuple[int, int, int]) -> Memory:
    """Return what a training step on images [batch_size, *shape] takes, as compiled here; nothing is run.

    arrays = arguments + outputs - outputs that take a donated argument's place + temporaries, XLA's own plan. On a CPU
    the process holds them beside what it has held at most by now: Python, jax, and the compiler at work.
    """
    trainer = _trainer(model, batch_size, shape[1], 1, shape[2])
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), trainer.abstract_state())
    plan: Any = trainer.lowered(state, 0).compile().memory_analysis()
    arrays = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    arrays += plan.temp_size_in_bytes
    return Memory(arrays, peak_resident_bytes() + arrays if jax.default_backend() == "cpu" else None)


def timed(call: Callable, *arguments: Any) -> tuple[float, Any]:
    """Return (seconds, result) of a call, once all of its result is there."""
    began = time.perf_counter()
    result = jax.block_until_ready(call(*arguments))
    return time.perf_counter() - began, result


@pinned()
def probe(model: Any, config: Config) -> Cost:
    """Return the cost of training on one device, measured here on the run's own data."""
    trainer = trainer_for(model, config.recipe, config.data, 1)
    sizes = trainer.dataset.sizes
    split = "test" if sizes["test"] else "train"  # one's own images may have none for test

    def begun() -> TrainState:
        state = trainer.train(trainer.initial_state(config.seed), config.seed, 1)
        trainer.evaluate(state, split)
        return state

    begun()
    jax.clear_caches()  # now the programs are on disk
    start, state = timed(begun)
    steps, seconds = 0, 0.0
    while seconds < LONG_ENOUGH and 2 * steps < trainer.steps_per_epoch:
        steps = 2 * steps or 1
        first = jax.block_until_ready(trainer.initial_state(config.seed))
        seconds, state = timed(trainer.train, first, config.seed, steps)
    evaluation, _ = timed(trainer.evaluate, state, split)
    trainer.feed.close()
    return Cost(seconds / steps, evaluation * sum(sizes.values()) / sizes[split], start, trainer.steps_per_epoch)


def _forms(model: Any) -> dict[str, tuple[Any, int]]:
    """{form: (network, steps a call)}, of the choices that the network has."""
    known = {f.name for f in dataclasses.fields(model)}
    convs = ("lax", "auto") if "conv" in known else (None,)
    forms = {}
    for conv in convs:
        own = {"conv": conv} if conv else {}
        if "unroll" not in known:
            forms[conv or "step"] = (model.clone(**own), 1)
            continue
        forms[f"{conv}, unrolled"] = (model.clone(**own, unroll=True), 1)
        if conv != "lax":  # whose gradient is slow in any loop of a CPU
            forms[f"{conv}, scanned"] = (model.clone(**own, unroll=False), 1)
    last, (form, _) = list(forms.items())[-1]
    return {**forms, f"{last}, {FUSED} steps fused": (form, FUSED)}
