"""Evaluation of an image by several views of it, as the papers test: ten crops, or densely at several scales.

The class probabilities of all views are averaged (Krizhevsky et al. 2012, section 4.1; Simonyan & Zisserman 2015,
section 3.2). Each example counts once; several processes share them out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from classicnets.data import crops
from classicnets.system.settings import pinned
from classicnets.training.predict import Trained
from classicnets.training.programs import Trainer

How = Literal["ten", "dense"]
# Examples that are evaluated at once, and examples that wait until so many have one size.
BATCH = 16


class Score(NamedTuple):
    """Of some examples: sums of losses, of wrong ones, and of those whose class is none of the five likeliest."""

    loss: float
    wrong: int
    wrong_of_five: int


@pinned()
def evaluate_views(
    trained: Trained,
    how: How,
    scales: Sequence[int] = (),
    splits: Sequence[str] = ("validation", "test"),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Return {"test_loss", "test_error", "test_top5_error"} of each split, errors in percent.

    how: "ten" for the four corners and the centre and their mirror images (Krizhevsky et al. 2012, section 4.1);
    "dense" for the whole image and its mirror image under the network made fully convolutional, whose class scores are
    averaged over positions (Simonyan & Zisserman 2015, section 3.2; He et al. 2016, section 3.4). scales: shorter sides
    of the image, over which probabilities are averaged too; none for test_side.

    Raise ValueError for a scale below the network's images, or a network that cannot be applied densely.
    """
    trainer = trained.trainer
    view = trainer.dataset.view
    side = view.side if view.crop != "shift" else min(trainer.dataset.shape[:2])
    scales = tuple(scales) or (view.test_side,)
    if min(scales) < side:
        raise ValueError(f"scales must be at least {side}, the side of the network's images, got {tuple(scales)}")
    if trained.config.data.image_size not in (None, side):
        raise ValueError(f"image_size must be the set's own with crop shift, got {trained.config.data.image_size}")
    model = trained.model if how == "ten" else _dense(trained, side)

    @jax.jit
    def probabilities(variables: Any, images: jax.Array) -> jax.Array:
        x = (images.astype(jnp.float32) - trainer.problem.mean) / trainer.problem.std
        logits = model.apply(variables, x, train=False).astype(jnp.float32)
        return jax.nn.softmax(logits.mean((1, 2)) if logits.ndim == 4 else logits)

    found: dict[str, float] = {}
    total = sum(trainer.dataset.sizes[split] for split in splits)
    done = 0
    for split in splits:
        start, size = trainer.dataset.span(split)
        if not size:
            continue
        own = range(start + jax.process_index(), start + size, jax.process_count())
        sums = np.zeros(3)
        for examples, mean in _averages(trained.variables, probabilities, trainer, own, side, scales, how):
            sums += _score(mean, trainer.dataset.labels[examples])
            done += len(examples)
            progress(done, total)
        if jax.process_count() > 1:
            sums = np.asarray(multihost_utils.process_allgather(sums)).sum(0)
        found |= {f"{split}_loss": float(sums[0] / size), f"{split}_error": float(100 * sums[1] / size)}
        if trainer.dataset.classes > 5:
            found[f"{split}_top5_error"] = float(100 * sums[2] / size)
    return found


def views_of(image: np.ndarray, side: int, short: int, how: How) -> np.ndarray:
    """Return the views [k, h, w, c] uint8 of an image whose shorter side is brought to `short` pixels.

    Ten: of `side`, the four corners and the centre, then their mirror images. Dense: the whole, and its mirror image.
    """
    height, width = image.shape[:2]
    tall, wide = crops.scaled_size(height, width, short)
    whole = crops.resized(image, crops.Box(0, 0, width, height), tall, wide)
    if how == "dense":
        views = whole[None]
    else:
        corners = [(0, 0), (0, wide - side), (tall - side, 0), (tall - side, wide - side)]
        corners.append(((tall - side) // 2, (wide - side) // 2))
        views = np.stack([whole[top : top + side, left : left + side] for top, left in corners])
    return np.concatenate([views, views[:, :, ::-1]])


def _averages(
    variables: Any,
    probabilities: Callable[[Any, np.ndarray], jax.Array],
    trainer: Trainer,
    examples: Iterable[int],
    side: int,
    scales: Sequence[int],
    how: How,
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield (examples, probabilities [n, classes], averaged over all views): examples of one size go together."""
    waiting: dict[tuple[int, ...], list[tuple[int, list[np.ndarray]]]] = defaultdict(list)

    def averaged(group: list[tuple[int, list[np.ndarray]]]) -> tuple[list[int], np.ndarray]:
        means = []
        for of_scale in zip(*(views for _, views in group), strict=True):
            stacked = np.stack(of_scale)
            flat = np.asarray(probabilities(variables, stacked.reshape(-1, *stacked.shape[2:])))
            means.append(flat.reshape(*stacked.shape[:2], -1).astype(np.float64).mean(1))
        return [example for example, _ in group], np.mean(means, 0)

    for example in examples:
        image = trainer.dataset.images[example]
        views = [views_of(image, side, short, how) for short in scales]
        size = views[0].shape
        waiting[size].append((example, views))
        if len(waiting[size]) == BATCH:
            yield averaged(waiting.pop(size))
    for group in waiting.values():
        yield averaged(group)


def _score(probabilities: np.ndarray, labels: np.ndarray) -> Score:
    own = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), 1)
    rank = (probabilities > own).sum(1)
    # Of equal probabilities the first class wins, as argmax has it.
    earlier = (probabilities == own) & (np.arange(probabilities.shape[1])[None] < labels[:, None])
    rank = rank + earlier.sum(1)
    loss = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
    return Score(float(loss.sum()), int((rank > 0).sum()), int((rank > 4).sum()))


def _dense(trained: Trained, side: int) -> Any:
    """Return the network in its fully convolutional form, with the same parameters; raise ValueError if it has none."""
    model, name = trained.model, type(trained.model).__name__
    head = getattr(model, "head", None)
    if head == "dense" and hasattr(model, "global_pool"):
        model = model.clone(head="convolutional", global_pool=True, adaptive_pool=False)
    elif head not in ("pooled", "convolutional"):
        raise ValueError(f"view must be ten for {name}, whose head {head!r} has no fully convolutional form, got dense")
    if trained.config.data.normalise == "pixel":
        raise ValueError("normalise must be channel for view dense, whose images have other sizes, got pixel")
    channels = trained.trainer.dataset.shape[2]

    def shapes(network: Any) -> Any:
        made = jax.eval_shape(
            lambda key, x: network.init(key, x, train=False), jax.random.key(0), jnp.zeros((1, side, side, channels))
        )
        return jax.tree.map(jnp.shape, made["params"])

    if shapes(model) != jax.tree.map(np.shape, trained.variables["params"]):
        raise ValueError(
            f"view must be ten for {name} trained on {side} x {side} images: its fully convolutional form has other "
            "parameters, got dense"
        )
    return model
