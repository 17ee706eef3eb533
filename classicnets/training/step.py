"""The data-parallel training and evaluation steps. The only file that names pmap.

Device count is not a scientific variable: the global batch holds the same examples, each example's
augmentation is keyed by (seed, step, example), and batch norm takes its statistics over all replicas of
the axis "data", so that N devices agree with one to rounding.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils, struct
from jax import lax, random

from classicnets.data import DataConfig, Dataset
from classicnets.data.augmentation import pad_crop_flip
from classicnets.training.config import Recipe
from classicnets.training.optimizer import optimizer

AXIS = "data"
# Of all random numbers, whatever the process's default is: a seed names its numbers.
GENERATOR = "threefry2x32"


class Fault(struct.PyTreeNode):
    """The first step at which a tensor was not finite, -1 if there is none, and which tensors of `Trainer.tensors`."""

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


class Errors(NamedTuple):
    """Mean loss, and the share of wrong examples in percent."""

    loss: float
    error: float


def _moments(images: np.ndarray, normalise: str) -> tuple[np.ndarray, np.ndarray]:
    """(mean [1, 1, 1, c] or [1, h, w, c], standard deviation [1, 1, 1, c]) of uint8 images [n, h, w, c].

    Sums of integers below 2**53: exact, in whatever order and parts.
    """
    total, squares = np.zeros((1, *images.shape[1:])), np.zeros((1, 1, 1, images.shape[-1]))
    for part in np.array_split(images, len(images) // 1024 + 1):
        part = part.astype(np.float64)
        total, squares = total + part.sum(0, keepdims=True), squares + np.square(part).sum((0, 1, 2), keepdims=True)
    pixel = total / len(images)
    channel = pixel.mean((1, 2), keepdims=True)
    std = np.sqrt(squares / images[..., 0].size - channel**2) + 1e-8
    return (channel if normalise == "channel" else pixel).astype(np.float32), std.astype(np.float32)


def image_shape(dataset: Dataset, data: DataConfig) -> tuple[int, int, int]:
    """Return [h, w, c] of the images as the network sees them."""
    height, width, channels = dataset.images.shape[1:]
    return data.image_size or height, data.image_size or width, channels


def require_length(recipe: Recipe, dataset: Dataset) -> None:
    """Raise ValueError if not even one batch can be had, or the run ends before what its schedule says."""
    if recipe.batch_size > dataset.sizes["train"]:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {dataset.sizes['train']} training images")
    total = recipe.total_steps(dataset.sizes["train"] // recipe.batch_size)
    if recipe.warmup_steps >= total:
        raise ValueError(f"warmup_steps must be less than the {total} steps of the run, got {recipe.warmup_steps}")
    length, unit = (recipe.epochs, "epochs") if recipe.steps is None else (recipe.steps, "steps")
    if recipe.boundaries and recipe.boundaries[-1] >= length:
        raise ValueError(f"boundaries must be less than the {length} {unit} of the run, got {recipe.boundaries}")


def cross_entropy(logits, labels, smoothing: float = 0.0):
    """Return the loss of each example, in float32 at least: logits [n, classes], labels [n] -> [n]."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing))


class Trainer:
    """Compiled programs for one network, recipe and data set on some devices; seeds share them."""

    def __init__(self, model, recipe: Recipe, dataset: Dataset, data: DataConfig, devices: list):
        if recipe.batch_size % len(devices):
            raise ValueError(f"batch_size {recipe.batch_size} is not divided by {len(devices)} devices")
        require_length(recipe, dataset)
        self.devices = devices
        self.platform = devices[0].platform
        self.local_devices = [device for device in devices if device.process_index == jax.process_index()]
        self.dataset = dataset
        self.recipe = recipe
        self.augment = data.augment
        self.image_shape = image_shape(dataset, data)
        self.model = model
        synchronised = recipe.batch_norm == "synchronised" and any(
            f.name == "axis_name" for f in dataclasses.fields(model)
        )
        self.parallel_model = model.clone(axis_name=AXIS) if synchronised else model
        self.steps_per_epoch = dataset.sizes["train"] // recipe.batch_size
        self.mean, self.std = _moments(dataset.images[: dataset.sizes["train"]], data.normalise)
        self.data = self.replicate((dataset.images, dataset.labels))
        self.init = jax.jit(self._initial_state)
        self._train = jax.pmap(self._train_steps, AXIS, in_axes=(0, 0, None, None), devices=devices, donate_argnums=0)
        self._train_packed = jax.pmap(
            self._train_members, AXIS, in_axes=(0, 0, None, None, None), devices=devices, donate_argnums=0
        )
        spans = {"in_axes": (0, 0, None, None, None), "devices": devices, "static_broadcasted_argnums": 4}
        self._evaluate = jax.pmap(self._evaluate_span, AXIS, **spans)
        self._evaluate_packed = jax.pmap(self._evaluate_members, AXIS, **spans)

    def replicate(self, tree):
        """One copy on each of this process's devices."""
        return jax_utils.replicate(tree, self.local_devices, axis_name=AXIS)

    @staticmethod
    def unreplicate(tree):
        """The first replica, on the host (flax's own forgets the axis when one of several devices is used)."""
        return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)

    def initial_state(self, seed: int) -> TrainState:
        """The replicated state before the first step; each parameter's key comes from the seed and its path."""
        return self.replicate(self.init(seed))

    def named(self, fault: Fault) -> tuple[int, str] | None:
        """(step, name) of the first tensor that was not finite, None if all were; a fault on the host."""
        return (fault.step.item(), self.tensors[fault.tensors.argmax()]) if fault.step >= 0 else None

    @property
    def tensors(self) -> list[str]:
        """The names of what each step checks: the loss, gradients, batch statistics and parameters."""
        state = self.abstract_state()
        kinds = {"gradient": state.params, "batch statistics": state.batch_stats, "parameter": state.params}
        return ["loss"] + [
            f"{kind} {'/'.join(key.key for key in path)}"
            for kind, tree in kinds.items()
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        ]

    def memory(self) -> int:
        """Bytes that a training step is estimated to take on one device: the state, as much again for gradients and
        updates, and the outputs of all layers for its share of the batch."""
        state = self.abstract_state()
        local = self.recipe.batch_size // len(self.devices)
        images = jax.ShapeDtypeStruct((local, *self.image_shape), jnp.float32)

        def outputs(variables, images):
            options = {"capture_intermediates": True, "mutable": ["batch_stats", "intermediates"]}
            _, new = self.model.apply(
                variables, images, train=True, rngs={"dropout": random.key(0, impl=GENERATOR)}, **options
            )
            return new["intermediates"]

        variables = {"params": state.params, "batch_stats": state.batch_stats}
        kept = jax.eval_shape(outputs, variables, images)
        return sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves((state.params, state.params, state.opt_state, kept))
        )

    def abstract_state(self) -> TrainState:
        return jax.eval_shape(self._initial_state, 0)

    def train(self, state: TrainState, seed: int, steps: int) -> TrainState:
        """`steps` more steps, which must end in the epoch in which they begin."""
        return self._train(state, self.data, np.int32(seed), np.int32(steps))

    def train_packed(self, state: TrainState, seeds: list[int], scalars: dict, steps: int) -> TrainState:
        """The same for several members: `state` has an axis of members after that of devices.

        scalars: {field of the recipe: [its value for each member]}, in the place of the recipe's own.
        """
        scalars = {name: np.asarray(values, np.float32) for name, values in scalars.items()}
        return self._train_packed(state, self.data, np.asarray(seeds, np.int32), np.int32(steps), scalars)

    def evaluate(self, state: TrainState, split: str, statistics: str = "running") -> Errors:
        """Clean, unaugmented error over a whole split, each example counted once.

        statistics: "running" for inference mode, "batch" to normalise by each batch's own statistics.
        """
        return self._errors(self._evaluate, state, split, statistics)[0]

    def evaluate_packed(self, state: TrainState, split: str, statistics: str = "running") -> list[Errors]:
        """The same of each member."""
        return self._errors(self._evaluate_packed, state, split, statistics)

    def _errors(self, program, state, split: str, statistics: str) -> list[Errors]:
        start, size = self.dataset.span(split)
        sums = program(state, self.data, np.int32(start), np.int32(size), statistics == "batch")
        losses, wrongs = (np.atleast_1d(value) for value in self.unreplicate(sums))
        return [
            Errors(loss.item() / size, 100.0 * wrong.item() / size) for loss, wrong in zip(losses, wrongs, strict=True)
        ]

    def _initial_state(self, seed):
        images = jnp.zeros((1, *self.image_shape))
        variables = self.model.init(random.key(seed, impl=GENERATOR), images, train=False)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        checked = jax.tree.leaves((0.0, params, batch_stats, params))
        return TrainState(
            step=jnp.int32(0),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer(self.recipe, self.steps_per_epoch).init(params),
            sums=jnp.zeros(3),
            fault=Fault(jnp.int32(-1), jnp.zeros(len(checked), bool)),
        )

    def prepared(self, images):
        """uint8 images [n, h, w, c] of the data set as the network sees them, without augmentation."""
        return self._resized(self._normalised(images))

    def _normalised(self, images):
        return (images.astype(jnp.float32) - self.mean) / self.std

    def _resized(self, images):
        shape = (len(images), *self.image_shape)
        return images if images.shape == shape else jax.image.resize(images, shape, "bilinear")

    def _train_steps(self, state, data, seed, steps, scalars: Mapping = MappingProxyType({})):
        tx = optimizer(dataclasses.replace(self.recipe, **scalars), self.steps_per_epoch)
        images, labels = data
        size, batch = self.dataset.sizes["train"], self.recipe.batch_size
        local = batch // len(self.devices)
        key = random.key(seed, impl=GENERATOR)
        epoch = state.step // self.steps_per_epoch
        order = random.permutation(random.fold_in(random.fold_in(key, 1), epoch), size)
        fresh = state.step % self.steps_per_epoch == 0
        state = state.replace(sums=jnp.where(fresh, 0.0, state.sums))

        def one(_, state):
            first = state.step % self.steps_per_epoch * batch + lax.axis_index(AXIS) * local
            index = lax.dynamic_slice(order, (first,), (local,))
            x, y = self._normalised(images[index]), labels[index]
            if self.augment:
                step_key = random.fold_in(random.fold_in(key, 2), state.step)
                keys = jax.vmap(random.fold_in, (None, 0))(step_key, index)
                x = pad_crop_flip(keys, x, self.dataset.crop_padding, self.dataset.flip)
            x = self._resized(x)
            dropout = random.fold_in(random.fold_in(key, 3), state.step)
            if self.parallel_model is self.model:
                # A network that does not know the axis would drop the same values on every replica.
                dropout = random.fold_in(dropout, lax.axis_index(AXIS))
            return self._update(tx, state, x, y, dropout)

        return lax.fori_loop(0, steps, one, state)

    def _update(self, tx, state, images, labels, dropout):
        def loss_of(params):
            outputs, new = self.parallel_model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout},
            )
            logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = cross_entropy(logits, labels, self.recipe.label_smoothing).mean()
            for head in auxiliary:
                loss += self.recipe.auxiliary_weight * cross_entropy(head, labels, self.recipe.label_smoothing).mean()
            return loss, (logits, new.get("batch_stats", {}))

        (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        error = (logits.argmax(-1) != labels).mean()
        gradients, loss, error = lax.pmean((gradients, loss, error), AXIS)
        if self.parallel_model is self.model:
            # A network that does not normalise over the axis: its running averages are averaged instead.
            batch_stats = lax.pmean(batch_stats, AXIS)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        checked = jax.tree.leaves((loss, gradients, batch_stats, params))
        bad = jnp.stack([~jnp.isfinite(tensor).all() for tensor in checked])
        first = (state.fault.step < 0) & bad.any()
        return TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            sums=state.sums + jnp.stack([loss, error, optax.tree.norm(gradients)]),
            fault=Fault(jnp.where(first, state.step + 1, state.fault.step), jnp.where(first, bad, state.fault.tensors)),
        )

    def _train_members(self, states, data, seeds, steps, scalars):
        return self._of_each(
            lambda state, seed, own: self._train_steps(state, data, seed, steps, own), states, seeds, scalars
        )

    def _evaluate_members(self, states, *span):
        return self._of_each(lambda state: self._evaluate_span(state, *span), states)

    def _of_each(self, function, *arguments):
        """`function` of each member's arguments: under vmap, or on a CPU, where that is slower, of one after the other.

        That also leaves the order of all sums, and so the bits of a run that is trained alone.
        """
        if self.platform == "cpu":
            return lax.map(lambda one: function(*one), arguments)
        return jax.vmap(function)(*arguments)

    def _evaluate_span(self, state, data, start, size, batch_statistics):
        images, labels = data
        local = self.recipe.batch_size // len(self.devices)
        variables = {"params": state.params, "batch_stats": state.batch_stats}

        def one(i, sums):
            position = (i * len(self.devices) + lax.axis_index(AXIS)) * local + jnp.arange(local)
            # The last batch is filled up with the split's first examples, which are not counted again.
            index = start + position % size
            x = self.prepared(images[index])
            if batch_statistics:
                logits, _ = self.parallel_model.apply(
                    variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": random.key(0, impl=GENERATOR)}
                )
                logits = logits[0] if isinstance(logits, tuple) else logits
            else:
                logits = self.model.apply(variables, x, train=False)
            counted = position < size
            loss = cross_entropy(logits, labels[index])
            wrong = logits.argmax(-1) != labels[index]
            return sums[0] + jnp.where(counted, loss, 0.0).sum(), sums[1] + (wrong & counted).sum(dtype=jnp.int32)

        batches = (size + self.recipe.batch_size - 1) // self.recipe.batch_size
        return lax.psum(lax.fori_loop(0, batches, one, (jnp.float32(0), jnp.int32(0))), AXIS)
