"""Schedules, optimisers, averages and factors, against values computed by hand or by formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from classicnets.data import DataConfig, load
from classicnets.runs.identity import FIXED, acting_recipe
from classicnets.training import Config, Recipe
from classicnets.training.optimizer import Average, Plateau, observed, optimizer, part_of, schedule, with_part
from classicnets.training.programs import require_length

pytestmark = pytest.mark.usefixtures("without_expensive_passes")


def rates(recipe, steps):
    found = schedule(recipe, 10)
    return [float(found(step)) for step in steps]


@pytest.mark.parametrize(
    ("fields", "steps", "expected"),
    [
        ({"schedule": "linear"}, (0, 10, 30, 40), (0.1, 0.075, 0.025, 0)),
        ({"schedule": "polynomial", "power": 0.5}, (0, 30, 40), (0.1, 0.05, 0)),
        ({"schedule": "polynomial", "power": 2.0}, (0, 20), (0.1, 0.025)),
        ({"schedule": "exponential", "step_factor": 0.94}, (0, 19, 20, 39), (0.1, 0.1, 0.094, 0.094)),
        ({"schedule": "exponential", "step_factor": 0.5, "steps": 40, "decay_every": 3}, (2, 3, 6), (0.1, 0.05, 0.025)),
        ({"schedule": "constant"}, (0, 39), (0.1, 0.1)),
        ({"schedule": "plateau"}, (0, 39), (0.1, 0.1)),
        ({"schedule": "constant", "warmup_epochs": 2}, (0, 9, 19, 20), (0.005, 0.05, 0.1, 0.1)),
        ({"warmup_epochs": 1}, (4, 20), (0.05, 0.05)),
    ],
)
def test_a_schedule_is_its_formula(fields, steps, expected):
    assert rates(Recipe(epochs=4, **fields), steps) == pytest.approx(expected, abs=1e-8)


def steps_of(recipe, gradients, w=2.0):
    """The weight after each gradient, in float64 by hand where `recipe` is a function."""
    params = {"w": jnp.float32(w)}
    tx = optimizer(recipe, 10)
    state, seen = tx.init(params), []
    for gradient in gradients:
        updates, state = tx.update({"w": jnp.float32(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params["w"]))
    return seen


GRADIENTS = (0.5, -1.0, 0.25, 3.0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov):
    w, v, expected = 2.0, 0.0, []
    for g in GRADIENTS:
        g = g + 0.01 * w
        v = 0.9 * v + g
        w -= 0.1 * (g + 0.9 * v if nesterov else v)
        expected.append(w)
    recipe = Recipe(schedule="constant", weight_decay=0.01, nesterov=nesterov)
    assert steps_of(recipe, GRADIENTS) == pytest.approx(expected, rel=1e-5)


def test_rmsprop_is_tensorflows():
    """Mean squares that begin with 1, epsilon under the root, and the rate inside the velocity."""
    w, mean, v, expected = 2.0, 1.0, 0.0, []
    for g in GRADIENTS:
        g = g + 0.01 * w
        mean = 0.8 * mean + 0.2 * g * g
        v = 0.7 * v + 0.1 * g / np.sqrt(mean + 0.5)
        w -= v
        expected.append(w)
    fields = {"optimizer": "rmsprop", "rmsprop_decay": 0.8, "rmsprop_epsilon": 0.5, "momentum": 0.7}
    recipe = Recipe(schedule="constant", weight_decay=0.01, **fields)
    assert steps_of(recipe, GRADIENTS) == pytest.approx(expected, rel=1e-5)


def test_adam_is_its_formula():
    w, m, v, expected = 2.0, 0.0, 0.0, []
    for t, g in enumerate(GRADIENTS, 1):
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        w -= 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 0.01)
        expected.append(w)
    fields = {"optimizer": "adam", "adam_b1": 0.8, "adam_b2": 0.9, "adam_epsilon": 0.01}
    recipe = Recipe(schedule="constant", weight_decay=0.0, **fields)
    assert steps_of(recipe, GRADIENTS) == pytest.approx(expected, rel=1e-5)


def test_the_average_is_of_the_parameters_after_each_step():
    recipe = Recipe(schedule="constant", momentum=0.0, weight_decay=0.0, ema_decay=0.75)
    tx, params = optimizer(recipe, 10), {"w": jnp.float32(2.0)}
    state, average = tx.init(params), 2.0
    for gradient in GRADIENTS:
        updates, state = tx.update({"w": jnp.float32(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        average = 0.75 * average + 0.25 * float(params["w"])
        assert float(part_of(state, Average).average["w"]) == pytest.approx(average)


def test_factors_multiply_by_layer_and_by_parameter():
    params = {"head": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "header": {"kernel": jnp.ones(2)}}
    recipe = Recipe(learning_rate=1.0, schedule="constant", weight_decay=0.0, rates=("head=10", "bias=2"))
    tx = optimizer(recipe, 10, frozen=("header",))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    found = {key: -float(leaf[0]) for key, leaf in jax.tree_util.tree_leaves_with_path(updates)}
    assert sorted(found.values()) == [0.0, 10.0, 20.0]
    assert updates["head"]["bias"].tolist() == [-20.0, -20.0]


def test_a_plateau_divides_the_rate_when_the_error_stops_falling():
    recipe = Recipe(schedule="plateau", plateau_epochs=2, momentum=0.0, weight_decay=0.0)
    tx, params = optimizer(recipe, 10), {"w": jnp.float32(1.0)}
    state, factors = tx.init(params), []
    for epoch, error in enumerate((50.0, 40.0, 40.0, 41.0, 39.0, 39.0, 39.0), 1):
        plateau = jax.tree.map(np.asarray, part_of(state, Plateau))
        state = with_part(state, observed(plateau, 10 * epoch, np.float32(error), recipe))
        factors.append(float(part_of(state, Plateau).factor))
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert part_of(state, Plateau).observed == 70
    updates, _ = tx.update({"w": jnp.float32(1.0)}, state, params)
    assert float(updates["w"]) == pytest.approx(-0.001)


def test_the_state_of_plain_sgd_is_what_old_checkpoints_hold():
    state = optimizer(Recipe(rates=("bias=2",)), 10, frozen=("a",)).init({"w": jnp.ones(2)})
    assert [type(part).__name__ for part in state] == ["EmptyState", "EmptyState", "tuple"]
    assert [type(part).__name__ for part in state[2]] == ["TraceState", "ScaleByScheduleState"]


def test_what_cannot_act_is_recorded_as_its_default():
    given = {"decay_every": 7, "power": 3.0, "plateau_epochs": 7, "rmsprop_decay": 0.5, "rmsprop_epsilon": 0.5}
    given |= {"adam_b1": 0.5, "adam_b2": 0.5, "adam_epsilon": 0.5, "momentum": 0.5}
    base = {**vars(Recipe()), **given}
    acts = {
        ("sgd", "cosine"): {"momentum"},
        ("rmsprop", "exponential"): {"momentum", "rmsprop_decay", "rmsprop_epsilon", "decay_every"},
        ("adam", "polynomial"): {"adam_b1", "adam_b2", "adam_epsilon", "power"},
        ("sgd", "plateau"): {"momentum", "plateau_epochs"},
    }
    for (name, kind), expected in acts.items():
        recorded = acting_recipe({**base, "optimizer": name, "schedule": kind}, auxiliary=False)
        assert {field for field in given if recorded[field] == given[field]} == expected
        assert all(recorded[field] == FIXED[field] for field in given if field not in expected)
    recorded = acting_recipe({**vars(Recipe()), "schedule": "exponential", "step_factor": 0.94}, auxiliary=False)
    assert recorded["step_factor"] == 0.94


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rates": ("bias",)}, "rates must be NAME=FACTOR with a factor of at least 0, got 'bias'"),
        ({"rates": ("bias=-1",)}, "rates must be NAME=FACTOR"),
        ({"rates": ("bias=inf",)}, "rates must be NAME=FACTOR"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \(0, 1\) or None, got 1.0"),
        ({"adam_b1": 1.0}, r"adam_b1 must be in \[0, 1\), got 1.0"),
        ({"rmsprop_epsilon": 0.0}, "rmsprop_epsilon must be positive, got 0.0"),
        ({"plateau_epochs": 0}, "plateau_epochs must be at least 1, got 0"),
        ({"warmup_steps": 3, "warmup_epochs": 1}, "warmup_epochs must be 0 beside warmup_steps, got 1"),
        ({"optimizer": "rmsprob"}, "optimizer must be .*, got 'rmsprob'; the nearest is 'rmsprop'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**fields).check()


def test_a_schedule_needs_what_it_looks_at():
    with pytest.raises(ValueError, match="validation_size must be at least 1 for schedule plateau"):
        Config(DataConfig(validation_size=0), Recipe(schedule="plateau")).check()
    with pytest.raises(ValueError, match="warmup_epochs must be less than the 2 epochs of the run, got 2"):
        require_length(Recipe(epochs=2, warmup_epochs=2), load(DataConfig()))


def test_decay_and_clipping_are_as_the_recipe_says():
    params = {"conv": {"kernel": jnp.full((2,), 3.0), "bias": jnp.full((2,), 3.0)}}
    zero = jax.tree.map(jnp.zeros_like, params)

    def update(gradients, **recipe):
        tx = optimizer(Recipe(learning_rate=1.0, schedule="constant", momentum=0.0, **recipe), 10)
        return tx.update(gradients, tx.init(params), params)[0]["conv"]

    assert update(zero, weight_decay=0.1)["bias"].tolist() == pytest.approx([-0.3, -0.3])
    kernels = update(zero, weight_decay=0.1, decay="kernels")
    assert (kernels["kernel"].tolist(), kernels["bias"].tolist()) == (pytest.approx([-0.3, -0.3]), [0.0, 0.0])
    clipped = update(jax.tree.map(jnp.ones_like, params), weight_decay=0.0, clip_norm=1.0)
    assert clipped["kernel"].tolist() == pytest.approx([-0.5, -0.5])


def test_schedules():
    step = schedule(Recipe(epochs=4, schedule="step", boundaries=(2, 3), warmup_steps=5), 10)
    assert [float(step(i)) for i in (0, 4, 5, 19, 20, 30)] == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])
    cosine = schedule(Recipe(epochs=4), 10)
    assert [float(cosine(i)) for i in (0, 20, 40)] == pytest.approx([0.1, 0.05, 0.0], abs=1e-8)
    for recipe, sentence in (
        (Recipe(boundaries=(1,)), "boundaries must be empty unless schedule is step"),
        (Recipe(schedule="step", boundaries=(3, 2)), "boundaries must be positive and rising, got \\(3, 2\\)"),
        (Recipe(batch_norm="none"), "batch_norm must be one of synchronised, per_replica, got 'none'"),  # pyright: ignore
    ):
        with pytest.raises(ValueError, match=sentence):
            recipe.check()
