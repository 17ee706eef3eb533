"""Two trained networks side by side: tensors, predictions and representations."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from classicnets.runs import checkpoints
from classicnets.training.programs import Trainer

# Images whose representations are compared: the Gram matrices are of this size.
IMAGES = 256


def tensors(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths, in the order of the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_difference(one: Any, other: Any) -> str | None:
    """The first tensor that is not equal in every bit, or that only one has; None if there is none."""
    a, b = tensors(one), tensors(other)
    for name in (*a, *(name for name in b if name not in a)):
        same = name in a and name in b and a[name].shape == b[name].shape and a[name].dtype == b[name].dtype
        if not same or a[name].tobytes() != b[name].tobytes():
            return name
    return None


def part_in_training(
    sides: list[tuple[Trainer, int]], states: list, start: int, end: int, progress: Callable[[int], None]
) -> tuple[int, str] | None:
    """(step, tensor) at which two trainings part, both done again from `states` at step `start` up to step `end`.

    sides: (trainer, seed) of each. Parameters and batch statistics are compared after each step, of which `progress` is
    told. None if they do not part.
    """
    for step in range(start, end + 1):
        progress(step)
        plain = [trainer.unreplicate(state) for (trainer, _), state in zip(sides, states, strict=True)]
        name = first_difference(*((state.params, state.batch_stats) for state in plain))
        if name is not None:
            return step, name.split("/", 1)[1]
        if step < end:
            states = [
                jax.block_until_ready(trainer.train(state, seed, 1))
                for (trainer, seed), state in zip(sides, states, strict=True)
            ]
    return None


def weight_distances(one: Any, other: Any) -> dict[str, float]:
    """Of each tensor that both have in one shape: |a - b| / sqrt(|a| |b|), Euclidean norms."""
    a, b = tensors(one), tensors(other)
    found = {}
    for name in a:
        if name in b and a[name].shape == b[name].shape:
            x, y = a[name].astype(np.float64), b[name].astype(np.float64)
            scale = np.sqrt(np.linalg.norm(x) * np.linalg.norm(y))
            found[name] = float(np.linalg.norm(x - y) / scale) if scale else float(np.any(x != y))
    return found


def predictions(trainer: Trainer, variables: Any, split: str = "test") -> np.ndarray:
    """The class of the greatest logit for each image of a split, int [n]."""
    apply = jax.jit(lambda images: trainer.model.apply(variables, images, train=False).argmax(-1))
    return np.concatenate([np.asarray(apply(part))[:count] for part, count in _batches(trainer, split)])


def cka(one: np.ndarray, other: np.ndarray) -> float | None:
    """Linear centred kernel alignment of two representations [n, p] and [n, q] of the same images.

    |X'Y|^2 / (|X'X| |Y'Y|), Frobenius norms of centred features: 1 for those equal but for rotation and scale
    (Kornblith et al. 2019, section 3). None where one is the same for all images, or is not finite.
    """
    kernels = []
    for features in (one, other):
        if not np.isfinite(features).all():
            return None
        x = features.reshape(len(features), -1).astype(np.float64)
        x = x - x.mean(0)
        kernels.append(x @ x.T)
    norms = np.linalg.norm(kernels[0]) * np.linalg.norm(kernels[1])
    return float((kernels[0] * kernels[1]).sum() / norms) if norms else None


def representations(trainer: Trainer, variables: Any, images: Any) -> dict[str, np.ndarray]:
    """What each layer gives for normalised images [n, h, w, c], by its name; of repeated blocks each on its own."""
    outputs = jax.jit(
        lambda x: trainer.model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])[
            1
        ]["intermediates"]
    )(images)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
        name = "/".join(key.key for key in path if hasattr(key, "key") and key.key != "__call__")
        leaf = np.asarray(leaf)
        if len(leaf) == len(images):
            found[name] = leaf
        elif leaf.ndim > 1 and leaf.shape[1] == len(images):
            found |= {f"{name}[{i}]": one for i, one in enumerate(leaf)}
    return {name: leaf for name, leaf in found.items() if leaf.ndim > 1}


def compare_networks(sides: list[tuple[Trainer, Any]]) -> dict:
    """{"disagreement": percent of test images, "cka": {layer: value}, "weights": {tensor: distance}} of two networks.

    Layers and tensors are those that both have by one name; the last two are empty for networks that share none.
    """
    (one, a), (other, b) = sides
    found: dict[str, Any] = {"disagreement": None, "cka": {}, "weights": weight_distances(a["params"], b["params"])}
    start, size = one.dataset.span("test")
    there, many = other.dataset.span("test")
    here, beside = one.dataset.images[start : start + size], other.dataset.images[there : there + many]
    if here.shape == beside.shape and (here == beside).all():
        classes = [predictions(trainer, variables) for trainer, variables in sides]
        found["disagreement"] = 100.0 * float((classes[0] != classes[1]).mean())
        layers = [representations(t, v, t.prepared(jnp.asarray(here[:IMAGES]))) for t, v in sides]
        found["cka"] = {name: cka(layers[0][name], layers[1][name]) for name in layers[0] if name in layers[1]}
    return found


def variables_at(trainer: Trainer, root: Any, step: int) -> dict:
    """{"params", "batch_stats"} of a checkpoint."""
    state = trainer.abstract_state()
    params, batch_stats = checkpoints.restore_variables(root, step, state.params, state.batch_stats)
    return {"params": params, "batch_stats": batch_stats}


def _batches(trainer: Trainer, split: str) -> Iterator[tuple[Any, int]]:
    """(normalised images of one batch size, how many of them count)."""
    start, size = trainer.dataset.span(split)
    batch = min(trainer.recipe.batch_size, size)
    for first in range(0, size, batch):
        index = start + (first + np.arange(batch)) % size
        yield trainer.prepared(jnp.asarray(trainer.dataset.images[index])), min(batch, size - first)
