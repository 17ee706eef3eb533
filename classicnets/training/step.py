"""The training step, the evaluation step and their loss: pure functions of one replica and one run.

Device count is not a scientific variable: the global batch holds the same examples, each example's augmentation is
keyed by (seed, step, example), and batch norm takes its statistics over all replicas of the axis "data", so that N
devices agree with one to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax import lax, random

from classicnets.data import DataConfig, Dataset
from classicnets.data.augmentation import along_colour_axes, mirrored, pad_crop_flip, photometric
from classicnets.training.config import Recipe
from classicnets.training.optimizer import Average, is_part, name_of, optimizer, part_of

AXIS = "data"
# Of all random numbers, whatever the process's default is: a seed names its numbers.
GENERATOR = "threefry2x32"


class Fault(struct.PyTreeNode):
    """The first step at which a tensor was not finite, -1 if there is none, and which tensors of `checked_tensors`."""

    step: Any
    tensors: Any


class TrainState(struct.PyTreeNode):
    """All that a resumed run needs; `sums` are loss, errors and gradient norm since the epoch began."""

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    sums: Any
    fault: Fault


class Data(Protocol):
    """Where a compiled step finds its examples: the whole set, or batches that the host has read."""

    def training(self, problem: "Problem", key: jax.Array, epoch: jax.Array) -> Callable[[jax.Array], tuple]:
        """Return step -> (numbers [n], images [n, h, w, c], labels [n]) of this replica's examples; key: the seed's."""
        ...

    def evaluation(self, problem: "Problem", start: jax.Array, size: jax.Array) -> Callable[[jax.Array], tuple]:
        """Return batch -> (images, labels) of this replica's examples of the split of `size` from `start` on."""
        ...


class Errors(NamedTuple):
    """Mean loss, and the share of wrong examples in percent."""

    loss: float
    error: float


@dataclass(frozen=True, eq=False)
class Problem:
    """What is trained on what, the same for all seeds: network, recipe, data set, and how its images are prepared.

    parallel: the network whose batch norm reduces over AXIS, the network itself where it cannot, or is not to. axes: of
    colour "pca".
    """

    model: Any
    parallel: Any
    recipe: Recipe
    dataset: Dataset
    data: DataConfig
    mean: np.ndarray
    std: np.ndarray
    replicas: int
    frozen: tuple[str, ...] = ()
    axes: np.ndarray | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self.dataset.sizes["train"] // self.recipe.batch_size

    @property
    def local_batch(self) -> int:
        """Images of a step on one replica."""
        return self.recipe.batch_size // self.replicas


def image_shape(dataset: Dataset, data: DataConfig) -> tuple[int, int, int]:
    """Return [h, w, c] of the images as the network sees them."""
    height, width, channels = dataset.shape
    return data.image_size or height, data.image_size or width, channels


def prepared(problem: Problem, images: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """uint8 images [n, h, w, c] of the data set as the network sees them; augmented by `keys` [n], if given."""
    view, x = problem.dataset.view, images.astype(jnp.float32)
    if keys is not None and view.colour == "pca":
        x = along_colour_axes(keys, x, jnp.asarray(problem.axes))
    if keys is not None and view.colour == "photometric":
        x = photometric(keys, x)
    x = (x - problem.mean) / problem.std
    if keys is not None and view.crop == "shift":
        x = pad_crop_flip(keys, x, problem.dataset.crop_padding, view.flip)
    elif keys is not None and view.flip:
        x = mirrored(keys, x)
    shape = (len(x), *image_shape(problem.dataset, problem.data))
    return x if x.shape == shape else jax.image.resize(x, shape, "bilinear")


def epoch_order(key: jax.Array, epoch: jax.Array | int, size: int) -> jax.Array:
    """Return the order [size] in which an epoch sees the training examples; key: of the run's seed."""
    return random.permutation(random.fold_in(random.fold_in(key, 1), epoch), size)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Return the loss of each example, in float32 at least: logits [n, classes], labels [n] -> [n]."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing))


def initial_state(problem: Problem, variables: Mapping[str, Any]) -> TrainState:
    """Return the state before the first step of a network that begins with `variables`."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer(problem.recipe, problem.steps_per_epoch, frozen=problem.frozen).init(params),
        sums=jnp.zeros(3),
        fault=Fault(jnp.int32(-1), jnp.zeros(len(checked_tensors(params, batch_stats)), bool)),
    )


def checked_tensors(params: Any, batch_stats: Any) -> list[str]:
    """Return the names of what each step checks: the loss, gradients, batch statistics and parameters."""
    kinds = {"gradient": params, "batch statistics": batch_stats, "parameter": params}
    paths = [(kind, path) for kind, tree in kinds.items() for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return ["loss", *(f"{kind} {name_of(path)}" for kind, path in paths)]


def evaluated_params(state: TrainState) -> Any:
    """Return the parameters that are evaluated: their moving average where the recipe has one."""
    average = part_of(state.opt_state, Average)
    return state.params if average is None else average.average


def train_steps(
    problem: Problem,
    state: TrainState,
    data: Data,
    seed: jax.Array,
    steps: jax.Array | int,
    scalars: Mapping[str, Any] = MappingProxyType({}),
) -> TrainState:
    """`steps` more steps, which must end in the epoch in which they begin; scalars: as `optimizer` takes them."""
    tx = optimizer(problem.recipe, problem.steps_per_epoch, scalars, problem.frozen)
    key = random.key(seed, impl=GENERATOR)
    batch = data.training(problem, key, state.step // problem.steps_per_epoch)
    fresh = state.step % problem.steps_per_epoch == 0
    state = state.replace(sums=jnp.where(fresh, 0.0, state.sums))

    def one(_: Any, state: TrainState) -> TrainState:
        examples, images, labels = batch(state.step)
        keys = None
        if problem.data.augment:
            step_key = random.fold_in(random.fold_in(key, 2), state.step)
            keys = jax.vmap(random.fold_in, (None, 0))(step_key, examples)
        dropout = random.fold_in(random.fold_in(key, 3), state.step)
        if problem.parallel is problem.model:
            # A network that does not know the axis would drop the same values on every replica.
            dropout = random.fold_in(dropout, lax.axis_index(AXIS))
        return train_step(problem, tx, state, prepared(problem, images, keys), labels, dropout)

    # One step needs no loop, in which a CPU differentiates XLA's own convolutions slowly.
    return one(0, state) if isinstance(steps, int) and steps == 1 else lax.fori_loop(0, steps, one, state)


def train_step(
    problem: Problem,
    tx: optax.GradientTransformation,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    dropout: jax.Array,
) -> TrainState:
    """Return the state after one step on prepared images [n, h, w, c] and labels [n] of this replica.

    A batch norm in a frozen part normalises by its running statistics, and leaves them as they are.
    """
    recipe = problem.recipe

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": _stopped(params, problem.frozen), "batch_stats": state.batch_stats}
        with nn.intercept_methods(_frozen_norms(problem.frozen)):
            outputs, new = problem.parallel.apply(
                variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": dropout}
            )
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = cross_entropy(logits, labels, recipe.label_smoothing).mean()
        for head in auxiliary:
            loss += recipe.auxiliary_weight * cross_entropy(head, labels, recipe.label_smoothing).mean()
        return loss, (logits, new.get("batch_stats", {}))

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    error = (logits.argmax(-1) != labels).mean()
    gradients, loss, error = lax.pmean((gradients, loss, error), AXIS)
    if problem.parallel is problem.model:
        # A network that does not normalise over the axis: its running averages are averaged instead.
        batch_stats = lax.pmean(batch_stats, AXIS)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    bad = not_finite(jax.tree.leaves((loss, gradients, batch_stats, params)))
    first = (state.fault.step < 0) & bad.any()
    return TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        sums=state.sums + jnp.stack([loss, error, optax.tree.norm(gradients)]),
        fault=Fault(jnp.where(first, state.step + 1, state.fault.step), jnp.where(first, bad, state.fault.tensors)),
    )


def not_finite(tensors: Sequence[jax.Array]) -> jax.Array:
    """Return [n]: whether each tensor holds a value that is not finite.

    A finite number less itself is 0 and any other is NaN, which stays in a sum (and does not in XLA's largest value on
    a CPU). XLA makes one pass of it over a flat tensor, and several of a product with 0 or over a tensor of more axes.
    """
    flat = [tensor.astype(jnp.float32).ravel() for tensor in tensors]
    return ~jnp.isfinite(jnp.stack([(x - x).sum() for x in flat]))


def evaluate_batches(
    problem: Problem,
    state: TrainState,
    data: Data,
    sums: tuple[jax.Array, jax.Array],
    span: tuple[jax.Array, jax.Array],
    batches: tuple[jax.Array, jax.Array],
    batch_statistics: bool,
) -> tuple[jax.Array, jax.Array]:
    """Return `sums` (of losses, of wrong examples) and this replica's part of `batches` (first, end), not augmented.

    span: (first example, size) of the split, whose batch b holds examples [b, b + 1) * batch_size, the last one filled
    up with the split's first examples, which are not counted again. batch_statistics: normalise by each batch's own
    statistics instead of the running ones.
    """
    start, size = span
    variables = {"params": evaluated_params(state), "batch_stats": state.batch_stats}
    batch = data.evaluation(problem, start, size)

    def one(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        images, labels = batch(i)
        x = prepared(problem, images)
        if batch_statistics:
            rngs = {"dropout": random.key(0, impl=GENERATOR)}
            logits, _ = problem.parallel.apply(variables, x, train=True, mutable=["batch_stats"], rngs=rngs)
            logits = logits[0] if isinstance(logits, tuple) else logits
        else:
            logits = problem.model.apply(variables, x, train=False)
        counted = evaluated_positions(problem, i) < size
        loss = cross_entropy(logits, labels)
        wrong = logits.argmax(-1) != labels
        return sums[0] + jnp.where(counted, loss, 0.0).sum(), sums[1] + (wrong & counted).sum(dtype=jnp.int32)

    return lax.fori_loop(*batches, one, sums)


def evaluated_positions(problem: Problem, batch: jax.Array) -> jax.Array:
    """Return the positions [n] in a split of this replica's part of a batch; those past its end only fill it up."""
    return (batch * problem.replicas + lax.axis_index(AXIS)) * problem.local_batch + jnp.arange(problem.local_batch)


def _stopped(params: Any, frozen: Sequence[str]) -> Any:
    """Return `params`, through which no gradient goes to those of frozen parts."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: lax.stop_gradient(leaf) if is_part(name_of(path), frozen) else leaf, params
    )


def _frozen_norms(frozen: Sequence[str]) -> Any:
    """Return an interceptor under which the batch norms of frozen parts are in inference mode."""

    def call(method: Any, arguments: tuple, keywords: dict, context: Any) -> Any:
        module = context.module
        if hasattr(module, "use_running_average") and is_part("/".join(module.path), frozen):
            # Ours and Flax's read this field when called; a clone would be another module in the parent's scope.
            object.__setattr__(module, "use_running_average", True)
            keywords = {key: value for key, value in keywords.items() if key != "use_running_average"}
        return method(*arguments, **keywords)

    return call
