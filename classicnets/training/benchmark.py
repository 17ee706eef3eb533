"""How long a training step takes: the real one, timed in the forms that can be chosen, and on a run's own data."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from classicnets.data import DataConfig, Dataset
from classicnets.data.dataset import View
from classicnets.system.settings import pinned
from classicnets.training.config import Config, Execution, Recipe
from classicnets.training.programs import Trainer, trainer_for
from classicnets.training.step import TrainState

# Steps of a call in the form that training uses.
FUSED = 4
# Seconds that the timed steps of a probe take at least.
LONG_ENOUGH = 0.3


@dataclass(frozen=True)
class Cost:
    """Seconds of a step and of an evaluation of everything, once compiled."""

    step: float
    evaluation: float
    steps_per_epoch: int

    def of(self, config: Config, execution: Execution) -> float:
        """Return the seconds of a whole run, without compilation and checkpoints."""
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
    rows, states, times = [], {}, {}
    for case, (form, steps) in _forms(model).items():
        began = time.perf_counter()
        call, states[case] = compiled_step(form, batch_size, image_size, steps)
        states[case] = jax.block_until_ready(call(states[case]))
        rows.append({"case": case, "compile_seconds": time.perf_counter() - began, "call": call, "steps": steps})
        times[case] = []
    for _ in range(repeats + 1):
        for row in rows:
            seconds, states[row["case"]] = timed(row["call"], states[row["case"]])
            times[row["case"]].append(1e3 * seconds / row["steps"])
    return [
        {
            "case": row["case"],
            "median_ms": statistics.median(times[row["case"]][1:]),
            "min_ms": min(times[row["case"]][1:]),
            "max_ms": max(times[row["case"]][1:]),
            "n": repeats,
            "compile_seconds": row["compile_seconds"],
            "device": jax.devices()[0].device_kind,
        }
        for row in rows
    ]


def compiled_step(
    model: Any, batch_size: int, image_size: int, steps: int = 1
) -> tuple[Callable[[TrainState], TrainState], TrainState]:
    """Return (call, state): `state = call(state)` makes `steps` training steps of `model` on one device.

    The first call compiles. One step a call has no loop around it.
    """
    rng, classes, count = np.random.default_rng(0), model.num_classes or 10, batch_size * max(steps, FUSED)
    dataset = Dataset(
        images=rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8),
        labels=np.arange(count, dtype=np.int32) % classes,
        sizes={"train": count},
        class_names=tuple(map(str, range(classes))),
        crop_padding=4,
        view=View("shift", image_size, (image_size, image_size), True, "none", image_size),
        sha256="",
    )
    trainer = Trainer(model, Recipe(batch_size=batch_size), dataset, DataConfig(), jax.local_devices()[:1])
    state = trainer.initial_state(0)
    if steps == 1:
        return lambda state: trainer.train_one(state, 0), state
    return lambda state: trainer.train(state, 0, steps), state


def timed(call: Callable, *arguments: Any) -> tuple[float, Any]:
    """Return (seconds, result) of a call, once all of its result is there."""
    began = time.perf_counter()
    result = jax.block_until_ready(call(*arguments))
    return time.perf_counter() - began, result


@pinned()
def probe(model: Any, config: Config) -> Cost:
    """Return the cost of training on one device, measured here on the run's own data."""
    trainer = trainer_for(model, config.recipe, config.data, 1)
    state = trainer.train(trainer.initial_state(config.seed), config.seed, 1)
    steps, seconds = 0, 0.0
    while seconds < LONG_ENOUGH and 2 * steps < trainer.steps_per_epoch:
        steps = 2 * steps or 1
        first = jax.block_until_ready(trainer.initial_state(config.seed))
        seconds, state = timed(trainer.train, first, config.seed, steps)
    sizes = trainer.dataset.sizes
    split = "test" if sizes["test"] else "train"  # one's own images may have none for test
    trainer.evaluate(state, split)  # which compiles it
    evaluation, _ = timed(trainer.evaluate, state, split)
    trainer.feed.close()
    return Cost(seconds / steps, evaluation * sum(sizes.values()) / sizes[split], trainer.steps_per_epoch)


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
