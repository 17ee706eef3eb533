"""One training step, timed beside the same network with flax's own convolution gradient."""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from jax import lax

from classicnets.system.settings import pinned
from classicnets.training.config import Recipe
from classicnets.training.optimizer import optimizer

FUSED = 4


@pinned()
def bench(model, batch_size: int = 128, image_size: int = 32, repeats: int = 9) -> list[dict]:
    """Milliseconds of a training step on random images, in the forms that can be chosen, measured in turn.

    lax, unrolled: `nn.Conv` with the automatic gradient, the blocks unrolled, one step a call: the fastest form
    that the automatic gradient has on a CPU. auto, unrolled: the same with `conv="auto"`. auto, scanned, fused: the
    blocks in a loop and 4 steps a call, as training runs. The first two calls of each are not counted.
    """
    known = {f.name for f in dataclasses.fields(model)}
    if not {"conv", "unroll"} <= known:
        raise ValueError(f"{type(model).__name__} has no choice of convolution to compare")
    cases = {
        "lax, unrolled": (model.clone(conv="lax", unroll=True), 1),
        "auto, unrolled": (model.clone(conv="auto", unroll=True), 1),
        "auto, scanned": (model.clone(conv="auto", unroll=False), 1),
        f"auto, scanned, {FUSED} steps fused": (model.clone(conv="auto", unroll=False), FUSED),
    }
    rows, states, times = [], {}, {case: [] for case in cases}
    for case, (variant, steps) in cases.items():
        began = time.perf_counter()
        compiled, states[case] = compiled_step(variant, batch_size, image_size, steps)
        seconds = time.perf_counter() - began
        rows.append({"case": case, "compile_seconds": seconds, "call": compiled, "steps": steps})
    for _ in range(repeats + 2):
        for row in rows:
            began = time.perf_counter()
            states[row["case"]] = jax.block_until_ready(row["call"](states[row["case"]]))
            times[row["case"]].append(1e3 * (time.perf_counter() - began) / row["steps"])
    device = jax.devices()[0].device_kind
    return [
        {
            "case": row["case"],
            "median_ms": statistics.median(times[row["case"]][2:]),
            "min_ms": min(times[row["case"]][2:]),
            "max_ms": max(times[row["case"]][2:]),
            "n": repeats,
            "compile_seconds": row["compile_seconds"],
            "device": device,
        }
        for row in rows
    ]


def compiled_step(model, batch_size: int, image_size: int, steps: int = 1):
    """(call, state): `state = call(state)` makes `steps` training steps; traced and compiled for one device."""
    images = jax.random.normal(jax.random.key(0), (batch_size, image_size, image_size, 3))
    labels = jnp.arange(batch_size) % (model.num_classes or 1)
    tx = optimizer(Recipe(), steps_per_epoch=100)
    variables = jax.jit(lambda: model.init(jax.random.key(1), images[:1], train=False))()
    state = (variables["params"], variables.get("batch_stats", {}), tx.init(variables["params"]))

    def step(state):
        params, batch_stats, opt_state = state

        def loss_of(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, new.get("batch_stats", {})

        gradients, batch_stats = jax.grad(loss_of, has_aux=True)(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state

    def call(state):
        return step(state) if steps == 1 else lax.fori_loop(0, steps, lambda _, state: step(state), state)

    return jax.jit(call, donate_argnums=0).lower(state).compile(), state
