"""A recipe as an Optax optimiser."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from classicnets.training.config import Recipe

# The numbers of a recipe that can be values of the compiled program, in which runs that are trained together differ.
SCALARS = ("learning_rate", "momentum", "weight_decay")


class Average(NamedTuple):
    """The moving average of the parameters."""

    average: Any


class Plateau(NamedTuple):
    """What schedule plateau has seen: the rate's factor, the least validation error, epochs since, and at what step."""

    factor: Any
    best: Any
    waited: Any
    observed: Any


def schedule(recipe: Recipe, per_epoch: int, learning_rate: Any = None) -> optax.Schedule:
    """Return step -> rate, in epochs of `per_epoch` steps, without the factor of a plateau.

    learning_rate: in the place of the recipe's, a number or a traced value.
    """
    base = recipe.learning_rate if learning_rate is None else learning_rate
    total, unit = recipe.total_steps(per_epoch), per_epoch if recipe.steps is None else 1
    if recipe.schedule == "cosine":
        main = optax.cosine_decay_schedule(base, total)
    elif recipe.schedule == "step":
        main = optax.piecewise_constant_schedule(base, {b * unit: recipe.step_factor for b in recipe.boundaries})
    elif recipe.schedule in ("linear", "polynomial"):
        main = optax.polynomial_schedule(base, 0.0, recipe.power if recipe.schedule == "polynomial" else 1.0, total)
    elif recipe.schedule == "exponential":
        main = optax.exponential_decay(base, recipe.decay_every * unit, recipe.step_factor, staircase=True)
    else:
        main = optax.constant_schedule(base)
    # The schedule counts from the first step, warm-up included, as in the papers.
    if recipe.warmup_steps:
        return lambda step: jnp.where(jnp.less(step, recipe.warmup_steps), recipe.warmup_rate, main(step))
    if recipe.warmup_epochs:
        rising = recipe.warmup_epochs * per_epoch
        return lambda step: jnp.where(jnp.less(step, rising), base * (step + 1) / rising, main(step))
    return main


def optimizer(
    recipe: Recipe,
    per_epoch: int,
    scalars: Mapping[str, Any] = MappingProxyType({}),
    frozen: Sequence[str] = (),
) -> optax.GradientTransformation:
    """clip -> add weight_decay * w -> optimiser with schedule -> factors of rates -> frozen parts -> average.

    scalars: {field of SCALARS: value}, in the place of the recipe's own. frozen: layers whose updates are zero.
    """
    own = {name: scalars.get(name, getattr(recipe, name)) for name in SCALARS}
    rate = schedule(recipe, per_epoch, own["learning_rate"])
    if recipe.optimizer == "sgd":
        main = optax.sgd(rate, own["momentum"], recipe.nesterov)
    elif recipe.optimizer == "rmsprop":
        options = {"initial_scale": 1.0, "momentum": own["momentum"], "nesterov": recipe.nesterov}  # TensorFlow's 1
        main = optax.rmsprop(rate, recipe.rmsprop_decay, recipe.rmsprop_epsilon, **options)
    else:
        main = optax.adam(rate, recipe.adam_b1, recipe.adam_b2, recipe.adam_epsilon)
    if recipe.rates or frozen:
        main = _with_factors(main, recipe.factors, frozen)
    parts = [
        optax.identity() if recipe.clip_norm is None else optax.clip_by_global_norm(recipe.clip_norm),
        optax.add_decayed_weights(own["weight_decay"], _kernels if recipe.decay == "kernels" else None),
        main,
    ]
    # What follows is there only where it is used, so that the state of plain runs is what it was.
    if recipe.schedule == "plateau":
        parts.append(optax.GradientTransformation(_unobserved, _scaled_by_plateau))
    if recipe.ema_decay is not None:
        parts.append(_averaging(recipe.ema_decay))
    return optax.chain(*parts)


def observed(plateau: Plateau, step: int, errors: np.ndarray, recipe: Recipe) -> Plateau:
    """Return `plateau` after an epoch that ended at `step` with validation `errors`; of each member, if several."""
    better = errors < plateau.best
    waited = np.where(better, 0, plateau.waited + 1)
    drops = waited >= recipe.plateau_epochs
    return Plateau(
        factor=np.where(drops, plateau.factor * np.float32(recipe.step_factor), plateau.factor).astype(np.float32),
        best=np.where(better, errors, plateau.best).astype(np.float32),
        waited=np.where(drops, 0, waited).astype(np.int32),
        observed=np.full_like(plateau.observed, step),
    )


def part_of(opt_state: Any, kind: type) -> Any:
    """Return the state of `kind`, Average or Plateau, in an optimiser's state, None if it has none."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return next((leaf for leaf in leaves if isinstance(leaf, kind)), None)


def with_part(opt_state: Any, part: Average | Plateau) -> Any:
    """Return an optimiser's state with `part` in the place of the one of its kind."""
    kind = type(part)
    return jax.tree.map(
        lambda node: part if isinstance(node, kind) else node,
        opt_state,
        is_leaf=lambda node: isinstance(node, kind),
    )


def name_of(path: Sequence[Any]) -> str:
    """Return the path of a tree's leaf as "stage1/block2/conv1/kernel"."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def is_part(name: str, layers: Sequence[str]) -> bool:
    """Return whether a parameter's or module's name is one of `layers`, or lies in one."""
    return any(name == layer or name.startswith(f"{layer}/") for layer in layers)


def _kernels(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _with_factors(
    main: optax.GradientTransformation, factors: Mapping[str, float], frozen: Sequence[str]
) -> optax.GradientTransformation:
    """Return `main`, with its state, its updates times the factors of their names, and 0 in frozen parts."""

    def scaled(path: Sequence[Any], update: jax.Array) -> jax.Array:
        name = name_of(path)
        if is_part(name, frozen):
            return jnp.zeros_like(update)
        own = [factor for part, factor in factors.items() if is_part(name, [part]) or name.endswith(f"/{part}")]
        return update * np.prod(own, dtype=np.float32) if own else update

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = main.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(main.init, update)


def _unobserved(params: Any) -> Plateau:
    """Return the state before the first epoch; no error is more than 100 %."""
    return Plateau(jnp.float32(1), jnp.float32(101), jnp.int32(0), jnp.int32(0))


def _scaled_by_plateau(updates: Any, state: Any, params: Any = None) -> tuple[Any, Plateau]:
    return jax.tree.map(lambda update: update * state.factor, updates), state


def _averaging(decay: float) -> optax.GradientTransformation:
    """average = decay * average + (1 - decay) * w, of the parameters w after each step, begun with the first ones."""

    def init(params: Any) -> Average:
        return Average(jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Average]:
        new = optax.apply_updates(params, updates)
        return updates, Average(jax.tree.map(lambda old, w: decay * old + (1 - decay) * w, state.average, new))

    return optax.GradientTransformation(init, update)
