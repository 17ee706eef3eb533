"""Two trained networks side by side: tensors, predictions and representations."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from classicnets.data import Dataset
from classicnets.models import stacks
from classicnets.training.programs import Trainer

# Images whose representations are compared: the Gram matrices are of this size.
IMAGES = 256


def tensors(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a tree by their paths, in the order of the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_difference(one: Any, other: Any) -> str | None:
    """Return the first tensor that is not equal in every bit, or that only one has; None if there is none."""
    a, b = tensors(one), tensors(other)
    for name in (*a, *(name for name in b if name not in a)):
        same = name in a and name in b and a[name].shape == b[name].shape and a[name].dtype == b[name].dtype
        if not same or a[name].tobytes() != b[name].tobytes():
            return name
    return None


def weight_distances(one: Any, other: Any) -> dict[str, float]:
    """Return |a - b| / sqrt(|a| |b|), in Euclidean norms, of each tensor that both have in one shape."""
    a, b = tensors(one), tensors(other)
    found = {}
    for name in a:
        if name in b and a[name].shape == b[name].shape:
            x, y = a[name].astype(np.float64), b[name].astype(np.float64)
            scale = np.sqrt(np.linalg.norm(x) * np.linalg.norm(y))
            found[name] = float(np.linalg.norm(x - y) / scale) if scale else float(np.any(x != y))
    return found


def predictions(trainer: Trainer, variables: Any, split: str = "test") -> np.ndarray:
    """Return the class of the greatest logit for each image of a split, int [n]."""
    apply = jax.jit(lambda images: trainer.model.apply(variables, images, train=False).argmax(-1))
    return np.concatenate([np.asarray(apply(part))[:count] for part, count in _batches(trainer, split)])


def cka(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return the linear centred kernel alignment of two representations [n, p] and [n, q] of the same images.

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


def representations(trainer: Trainer, variables: Any, images: jax.Array) -> dict[str, np.ndarray]:
    """Return what each layer gives for normalised images [n, h, w, c], by its name; repeated blocks each."""

    def outputs(x: jax.Array) -> dict[stacks.Path, jax.Array]:
        _, state = trainer.model.apply(variables, x, train=False, capture_intermediates=True, mutable=["intermediates"])
        leaves = jax.tree_util.tree_leaves_with_path(state["intermediates"])
        return stacks.split(
            {tuple(k.key for k in path if hasattr(k, "key") and k.key != "__call__"): leaf for path, leaf in leaves}
        )

    found = {}
    for path, leaf in jax.jit(outputs)(images).items():
        name, leaf = "/".join(path), np.asarray(leaf)
        if len(leaf) == len(images):
            found[name] = leaf
        elif leaf.ndim > 1 and leaf.shape[1] == len(images):  # a stack of someone else's
            found |= {f"{name}[{i}]": one for i, one in enumerate(leaf)}
    return {name: leaf for name, leaf in found.items() if leaf.ndim > 1}


def compare_networks(sides: Sequence[tuple[Trainer, Any]]) -> dict:
    """Return {"disagreement": percent of test images, "cka": {layer: value}, "weights": {tensor: distance}} of two.

    Layers and tensors are those that both have by one name; the last two are empty for networks that share none.
    """
    (one, a), (other, b) = sides
    found: dict[str, Any] = {"disagreement": None, "cka": {}, "weights": weight_distances(a["params"], b["params"])}
    if _same_images(one.dataset, other.dataset):
        start, size = one.dataset.span("test")
        here = one.dataset.shown(start + np.arange(min(size, IMAGES)))
        classes = [predictions(trainer, variables) for trainer, variables in sides]
        found["disagreement"] = 100.0 * float((classes[0] != classes[1]).mean())
        layers = [representations(t, v, t.prepared(jnp.asarray(here))) for t, v in sides]
        found["cka"] = {name: cka(layers[0][name], layers[1][name]) for name in layers[0] if name in layers[1]}
    return found


def _same_images(one: Dataset, other: Dataset) -> bool:
    """Return whether two networks see the same test images, told by their sets or, of arrays, by their pixels."""
    spans = [dataset.span("test") for dataset in (one, other)]
    if not spans[0][1]:
        return False
    if (one.sha256, spans[0], one.view) == (other.sha256, spans[1], other.view):
        return True
    if not (one.is_resident and other.is_resident):
        return False
    here, there = (d.shown(start + np.arange(n)) for d, (start, n) in zip((one, other), spans, strict=True))
    return bool(here.shape == there.shape and (here == there).all())


def _batches(trainer: Trainer, split: str) -> Iterator[tuple[Any, int]]:
    """Yield (normalised images of one batch size, how many of them count)."""
    start, size = trainer.dataset.span(split)
    batch = min(trainer.recipe.batch_size, size)
    for first in range(0, size, batch):
        index = start + (first + np.arange(batch)) % size
        yield trainer.prepared(jnp.asarray(trainer.dataset.shown(index))), min(batch, size - first)
