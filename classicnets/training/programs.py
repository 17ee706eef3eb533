"""The steps, compiled for some devices and for one run or several. The only file that names pmap.

A run that is trained alone has no axis of members. Several, which differ in the seed and in SCALARS, have one after
that of devices: on a CPU they take turns, which is faster there and leaves the order of all sums, and so the bits of a
run that is trained alone (unless their momenta differ); elsewhere they go under vmap, equal to rounding.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax import lax, random

from classicnets.data import DataConfig, Dataset, load, moments
from classicnets.system.words import nearest
from classicnets.training import step as steps_of
from classicnets.training.config import Recipe
from classicnets.training.feed import DeviceFeed, HostFeed, Resident
from classicnets.training.initial import init, initial_variables
from classicnets.training.optimizer import is_part, name_of
from classicnets.training.program import Fit, fit
from classicnets.training.step import AXIS, GENERATOR, Errors, Fault, Problem, TrainState, image_shape


def require_length(recipe: Recipe, dataset: Dataset) -> None:
    """Raise ValueError if not even one batch can be had, or the run ends before what its schedule says."""
    if recipe.batch_size > dataset.sizes["train"]:
        raise ValueError(f"batch_size {recipe.batch_size} is more than the {dataset.sizes['train']} training images")
    per_epoch = dataset.sizes["train"] // recipe.batch_size
    total = recipe.total_steps(per_epoch)
    if recipe.warmup_steps >= total:
        raise ValueError(f"warmup_steps must be less than the {total} steps of the run, got {recipe.warmup_steps}")
    if recipe.warmup_epochs * per_epoch >= total:
        raise ValueError(
            f"warmup_epochs must be less than the {total / per_epoch:g} epochs of the run, got {recipe.warmup_epochs}"
        )
    length, unit = (recipe.epochs, "epochs") if recipe.steps is None else (recipe.steps, "steps")
    if recipe.boundaries and recipe.boundaries[-1] >= length:
        raise ValueError(f"boundaries must be less than the {length} {unit} of the run, got {recipe.boundaries}")


class Trainer:
    """Compiled programs for one network, recipe and data set on some devices; seeds share them."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        dataset: Dataset,
        data: DataConfig,
        devices: list,
        frozen: tuple[str, ...] = (),
    ):
        if recipe.batch_size % len(devices):
            raise ValueError(f"batch_size {recipe.batch_size} is not divided by {len(devices)} devices")
        require_length(recipe, dataset)
        self.model, self.recipe, self.dataset, self.devices = model, recipe, dataset, devices
        self.local_devices = [device for device in devices if device.process_index == jax.process_index()]
        reduces = recipe.batch_norm == "synchronised" and has_axis(model)
        parallel = model.clone(axis_name=AXIS) if reduces else model
        mean, std = moments.normalisation(dataset.images, dataset.sizes["train"], data.normalise)
        if data.mean:
            mean, std = (np.array(values, np.float32)[None, None, None] for values in (data.mean, data.deviation))
        axes = moments.colour_axes(dataset.images, dataset.sizes["train"]) if dataset.view.colour == "pca" else None
        self.problem = Problem(model, parallel, recipe, dataset, data, mean, std, len(devices), frozen, axes)
        self.steps_per_epoch = self.problem.steps_per_epoch
        self._require_names(frozen)
        if dataset.is_resident:
            self.feed = DeviceFeed(self.replicate(Resident(dataset.images, dataset.labels)))
        else:
            self.feed = HostFeed(self.problem, [devices.index(device) for device in self.local_devices])
        self._initial_state = jax.jit(partial(steps_of.initial_state, self.problem))
        self._compile(in_turn=devices[0].platform == "cpu")

    def _compile(self, in_turn: bool) -> None:
        def train(state: TrainState, data: Any, seeds: Any, steps: Any, scalars: Mapping) -> TrainState:
            def of_member(state: TrainState, seed: Any, scalars: Mapping) -> TrainState:
                return steps_of.train_steps(self.problem, state, data, seed, steps, scalars)

            return _of_each_member(of_member, in_turn, state, seeds, scalars)

        def evaluate(state: TrainState, data: Any, sums: Any, span: Any, batches: Any, batch_statistics: bool) -> Any:
            def of_member(state: TrainState, sums: Any) -> Any:
                return steps_of.evaluate_batches(self.problem, state, data, sums, span, batches, batch_statistics)

            return _of_each_member(of_member, in_turn, state, sums)

        spread = {"in_axes": (0, 0, None, None, None), "devices": self.devices}
        self._train = jax.pmap(train, AXIS, **spread, donate_argnums=0)
        self._train_one = jax.pmap(
            partial(train, steps=1, scalars={}), AXIS, in_axes=(0, 0, None), devices=self.devices, donate_argnums=0
        )
        self._evaluate = jax.pmap(
            evaluate, AXIS, in_axes=(0, 0, 0, None, None, None), devices=self.devices, static_broadcasted_argnums=5
        )
        self._summed = jax.pmap(lambda sums: lax.psum(sums, AXIS), AXIS, devices=self.devices)

    def replicate(self, tree: Any) -> Any:
        """Return one copy on each of this process's devices."""
        return jax_utils.replicate(tree, self.local_devices, axis_name=AXIS)

    @staticmethod
    def unreplicate(tree: Any) -> Any:
        """Return the first replica, on the host (flax's own forgets the axis when one of several devices is used)."""
        return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)

    def init(self, seed: int) -> TrainState:
        """Return the state before the first step."""
        return self._initial_state(initial_variables(self.model, seed, image_shape(self.dataset, self.problem.data)))

    def initial_state(self, seed: int) -> TrainState:
        """Return the replicated state before the first step."""
        return self.replicate(self.init(seed))

    def abstract_state(self) -> TrainState:
        """Return the shapes and types of one run's state."""
        shape = image_shape(self.dataset, self.problem.data)
        return jax.eval_shape(lambda: steps_of.initial_state(self.problem, init(self.model, shape, 0)))

    def train(
        self,
        state: TrainState,
        seeds: int | Sequence[int],
        steps: int,
        scalars: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> TrainState:
        """Return the state after `steps` more steps, which must end in the epoch in which they begin.

        seeds: of each member where there are several, whose `scalars` {field: [values]} replace the recipe's own.
        """
        values = {name: np.asarray(of_each, np.float32) for name, of_each in scalars.items()}
        for data, count in self.feed.training(partial(self._step, state), seeds, steps):
            state = self._train(state, data, np.asarray(seeds, np.int32), np.int32(count), values)
        return state

    def train_one(self, state: TrainState, seed: int) -> TrainState:
        """Return the state after one more step, compiled without the loop that `train` has."""
        ((data, _),) = self.feed.training(partial(self._step, state), seed, 1)
        return self._train_one(state, data, np.int32(seed))

    def lowered(self, state: TrainState, seed: int) -> Any:
        """Return `train_one` as it is traced for the compiler (`jax.stages.Lowered`)."""
        ((data, _),) = self.feed.training(partial(self._step, state), seed, 1)
        return self._train_one.lower(state, data, np.int32(seed))

    def evaluate(self, state: TrainState, split: str, statistics: str = "running") -> list[Errors]:
        """Return the errors of each member over a whole split, not augmented, each example counted once.

        statistics: "running" for inference mode, "batch" to normalise by each batch's own statistics.
        """
        start, size = self.dataset.span(split)
        members = np.zeros((len(self.local_devices), *state.step.shape[1:]))
        sums = (members.astype(np.float32), members.astype(np.int32))
        for data, batches in self.feed.evaluation(start, size, -(-size // self.recipe.batch_size)):
            span = (np.int32(start), np.int32(size))
            sums = self._evaluate(state, data, sums, span, tuple(map(np.int32, batches)), statistics == "batch")
        losses, wrongs = (np.atleast_1d(value) for value in self.unreplicate(self._summed(sums)))
        return [Errors(a.item() / size, 100.0 * b.item() / size) for a, b in zip(losses, wrongs, strict=True)]

    def _step(self, state: TrainState) -> int:
        return int(self.unreplicate(state.step))

    def prepared(self, images: jax.Array) -> jax.Array:
        """Return uint8 images [n, h, w, c] of the data set as the network sees them, without augmentation."""
        return steps_of.prepared(self.problem, images)

    def named(self, fault: Fault) -> tuple[int, str] | None:
        """Return (step, name) of the first tensor that was not finite, None if all were; of a fault on the host."""
        if fault.step < 0:
            return None
        state = self.abstract_state()
        return fault.step.item(), steps_of.checked_tensors(state.params, state.batch_stats)[fault.tensors.argmax()]

    def memory(self) -> int:
        """Return the bytes that a training step is estimated to take on one device.

        The state, as much again for gradients and updates, and the outputs of all layers for its share of the batch.
        """
        state = self.abstract_state()
        images = jax.ShapeDtypeStruct(
            (self.problem.local_batch, *image_shape(self.dataset, self.problem.data)), jnp.float32
        )

        def outputs(variables: Any, images: Any) -> Any:
            options = {"capture_intermediates": True, "mutable": ["batch_stats", "intermediates"]}
            rngs = {"dropout": random.key(0, impl=GENERATOR)}
            return self.model.apply(variables, images, train=True, rngs=rngs, **options)[1]["intermediates"]

        kept = jax.eval_shape(outputs, {"params": state.params, "batch_stats": state.batch_stats}, images)
        held = jax.tree.leaves((state.params, state.params, state.opt_state, kept))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in held)

    def _require_names(self, frozen: Sequence[str]) -> None:
        """Raise ValueError for a frozen layer, or the name of a rate's factor, that the network does not have."""
        if not (frozen or self.recipe.rates):
            return
        names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(self.abstract_state().params)]
        for layer in frozen:
            require_layer("frozen", layer, names)
        for part in self.recipe.factors:
            if not any(name.endswith(f"/{part}") for name in names):
                require_layer("rates", part, names)


def require_layer(field: str, layer: str, names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest one, if no parameter of `names` lies in `layer`."""
    if not any(is_part(name, [layer]) for name in names):
        layers = {"/".join(name.split("/")[:i]) for name in names for i in range(1, name.count("/") + 1)}
        raise ValueError(f"{field} names {layer!r}, which the network does not have{nearest(layer, layers)}")


def has_axis(model: Any) -> bool:
    """Return whether a network's batch norm and dropout can reach over all replicas: it has the field `axis_name`."""
    return any(f.name == "axis_name" for f in dataclasses.fields(model))


def _of_each_member(function: Callable, in_turn: bool, state: TrainState, *arguments: Any) -> Any:
    """function(state, *arguments), or that of each member where the state has an axis of members."""
    if state.step.ndim == 0:
        return function(state, *arguments)
    if in_turn:
        return lax.map(lambda own: function(*own), (state, *arguments))
    return jax.vmap(function)(state, *arguments)


def stacked(states: Sequence[TrainState]) -> TrainState:
    """Return the state of one member as it is, those of several with an axis of members."""
    return states[0] if len(states) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def unstacked(tree: Any, members: int) -> list:
    """Return each member's part of a tree on the host."""
    return [tree] if members == 1 else [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(members)]


def fitted(model: Any, recipe: Recipe, data: DataConfig, devices: int | None) -> Fit:
    """Return what a trace says of the network on the data; devices: over how many a batch norm's batch is spread."""
    if getattr(model, "dtype", None) == np.float64:
        raise ValueError("dtype float64 does not train, since runs compute in 32 bits: choose float32 or bfloat16")
    dataset = load(data)
    return fit(model, image_shape(dataset, data), dataset.classes, max(1, recipe.batch_size // (devices or 1)))


def trainer_for(
    model: Any, recipe: Recipe, data: DataConfig, devices: int | None, frozen: tuple[str, ...] = ()
) -> Trainer:
    """Return the programs for all seeds of a network, compiled once a process for what the network computes."""
    apart = not has_axis(model) or recipe.batch_norm == "per_replica"
    spread = (devices or jax.device_count()) if apart else None
    # Equal modules can compute different things, as when a global of a foreign one has changed; so can sets of a name.
    what = (fitted(model, recipe, data, spread), load(data).sha256)
    return _trainer_for(model, recipe, data, devices, frozen, what)


@lru_cache(maxsize=2)
def _trainer_for(
    model: Any, recipe: Recipe, data: DataConfig, devices: int | None, frozen: tuple[str, ...], _: tuple[Fit, str]
) -> Trainer:
    every = jax.devices()
    if devices is not None and devices > len(every):
        raise ValueError(f"devices must be at most {len(every)}, got {devices}")
    if devices is not None and jax.process_count() > 1:
        raise ValueError(f"devices must be None for several processes, which share all {len(every)}, got {devices}")
    return Trainer(model, recipe, load(data), data, every[:devices], frozen)
