"""A recipe as an Optax optimiser."""

import jax
import optax

from classicnets.training.config import Recipe


def schedule(recipe: Recipe, steps_per_epoch: int) -> optax.Schedule:
    """Step -> learning rate."""
    total = recipe.total_steps(steps_per_epoch)
    if recipe.schedule == "cosine":
        main = optax.cosine_decay_schedule(recipe.learning_rate, total)
    elif recipe.schedule == "step":
        unit = steps_per_epoch if recipe.steps is None else 1
        boundaries = {boundary * unit: recipe.step_factor for boundary in recipe.boundaries}
        main = optax.piecewise_constant_schedule(recipe.learning_rate, boundaries)
    else:
        main = optax.constant_schedule(recipe.learning_rate)
    if recipe.warmup_steps == 0:
        return main
    # The decay's boundaries count from the first step, warm-up included, as in the paper.
    return lambda step: jax.numpy.where(jax.numpy.less(step, recipe.warmup_steps), recipe.warmup_rate, main(step))


def optimizer(recipe: Recipe, steps_per_epoch: int) -> optax.GradientTransformation:
    """clip (if asked) -> add weight_decay * w -> momentum -> schedule."""

    def kernels(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    return optax.chain(
        optax.identity() if recipe.clip_norm is None else optax.clip_by_global_norm(recipe.clip_norm),
        optax.add_decayed_weights(recipe.weight_decay, kernels if recipe.decay == "kernels" else None),
        optax.sgd(schedule(recipe, steps_per_epoch), recipe.momentum, recipe.nesterov),
    )
