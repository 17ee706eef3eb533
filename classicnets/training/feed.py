"""How examples come to a compiled step: the whole set lives on the devices, or the host reads its batches ahead.

Either way a step sees the same examples in the same places, of which each replica has its share: `epoch_order` says
which, and an iterator needs no state of its own to go on from any step.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax, random

from classicnets.data import stream
from classicnets.training.step import AXIS, GENERATOR, Problem, epoch_order, evaluated_positions

# Bytes of the images that are given to a device's program at once.
BLOCK = 2**26


class Resident(struct.PyTreeNode):
    """The whole set on a device: images [n, h, w, c] uint8, labels [n]."""

    images: Any
    labels: Any

    def training(self, problem: Problem, key: jax.Array, epoch: jax.Array) -> Callable[[jax.Array], tuple]:
        order, local = epoch_order(key, epoch, problem.dataset.sizes["train"]), problem.local_batch

        def batch(step: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            first = step % problem.steps_per_epoch * problem.recipe.batch_size + lax.axis_index(AXIS) * local
            examples = lax.dynamic_slice(order, (first,), (local,))
            return examples, self.images[examples], self.labels[examples]

        return batch

    def evaluation(self, problem: Problem, start: jax.Array, size: jax.Array) -> Callable[[jax.Array], tuple]:
        def batch(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            examples = start + evaluated_positions(problem, number) % size
            return self.images[examples], self.labels[examples]

        return batch


class Batches(struct.PyTreeNode):
    """A replica's share of consecutive batches, from number `first` on: images [k, n, h, w, c], labels [k, n].

    examples [k, n]: their numbers in the set.
    """

    first: Any
    examples: Any
    images: Any
    labels: Any

    def training(self, problem: Problem, key: jax.Array, epoch: jax.Array) -> Callable[[jax.Array], tuple]:
        return lambda step: self._at(step)

    def evaluation(self, problem: Problem, start: jax.Array, size: jax.Array) -> Callable[[jax.Array], tuple]:
        return lambda number: self._at(number)[1:]

    def _at(self, number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        index = jnp.int32(number - self.first)
        return tuple(
            lax.dynamic_index_in_dim(held, index, keepdims=False) for held in (self.examples, self.images, self.labels)
        )  # pyright: ignore[reportReturnType]


class DeviceFeed:
    """Of a set that lives on the devices."""

    def __init__(self, data: Resident):
        self.data = data

    def training(self, step: Callable[[], int], seed: Any, steps: int) -> Iterator[tuple[Resident, int]]:
        """Yield (data, steps) until there were `steps`."""
        yield self.data, steps

    def evaluation(self, start: int, size: int, batches: int) -> Iterator[tuple[Resident, tuple[int, int]]]:
        """Yield (data, (first, end)) of all batches of a split."""
        yield self.data, (0, batches)

    def close(self) -> None:
        """End what reads ahead: nothing does."""


class HostFeed:
    """Of a set that the host reads, for the replicas of this process.

    Blocks of several batches are handed over at once, and the next ones read meanwhile.
    """

    def __init__(self, problem: Problem, replicas: Sequence[int], threads: int | None = None):
        stream.require()
        self.problem, self.replicas, self.threads = problem, replicas, threads
        # The same in every process, which take their steps together.
        bytes_of_batch = problem.recipe.batch_size * math.prod(problem.dataset.shape) // jax.process_count()
        self.length = max(1, min(problem.steps_per_epoch, BLOCK // max(1, bytes_of_batch)))
        self._source: Generator[Batches, None, None] | None = None
        self._block: Batches | None = None
        self._next: tuple[int, int] | None = None

    def training(self, step: Callable[[], int], seed: Any, steps: int) -> Iterator[tuple[Batches, int]]:
        """Yield (batches, how many steps they are for) until there were `steps` from number `step()` on."""
        at = step()
        end = at + steps
        while at < end:
            if self._next != (seed, at) or self._source is None:
                self.close()
                self._source = self._training(seed, at)
            if self._block is None or at >= self._first + self.length:
                self._block = next(self._source)
            count = min(end, self._first + self.length) - at
            at += count
            self._next = (seed, at)
            yield self._block, count
            if at % self.problem.steps_per_epoch == 0:
                self.close()

    @property
    def _first(self) -> int:
        assert self._block is not None
        return int(self._block.first[0])

    def evaluation(self, start: int, size: int, batches: int) -> Iterator[tuple[Batches, tuple[int, int]]]:
        """Yield (batches, (first, end)) of a split's blocks of batches."""
        local = self.problem.local_batch

        def examples(number: int) -> np.ndarray:
            first = (number * self.problem.replicas + np.array(self.replicas)) * local
            return start + (first[:, None] + np.arange(local)) % size

        source = self._blocks(0, batches, examples, None)
        try:
            for block in source:
                first = int(block.first[0])
                yield block, (first, min(first + self.length, batches))
        finally:
            source.close()

    def close(self) -> None:
        """End the threads that read ahead."""
        if self._source is not None:
            self._source.close()
        self._source = self._block = self._next = None

    def _training(self, seed: int, step: int) -> Generator[Batches, None, None]:
        """Yield blocks from `step` to the end of its epoch."""
        per_epoch, local = self.problem.steps_per_epoch, self.problem.local_batch
        epoch = step // per_epoch
        key = random.key(seed, impl=GENERATOR)
        order = np.asarray(epoch_order(key, epoch, self.problem.dataset.sizes["train"]))

        def examples(number: int) -> np.ndarray:
            first = number % per_epoch * self.problem.recipe.batch_size + np.array(self.replicas) * local
            return order[first[:, None] + np.arange(local)]

        yield from self._blocks(step, (epoch + 1) * per_epoch, examples, seed)

    def _blocks(
        self, first: int, end: int, examples: Callable[[int], np.ndarray], seed: int | None
    ) -> Generator[Batches, None, None]:
        """Yield batches `first` to `end`, `self.length` at a time, the last ones followed by blank ones.

        examples: number of a batch -> [replicas, n]; seed: of training, None in evaluation.
        """
        dataset, blank = self.problem.dataset, np.zeros(self.problem.dataset.shape, np.uint8)
        firsts = range(first, end, self.length)
        numbers = np.full((len(firsts), len(self.replicas), self.length, self.problem.local_batch, 2), -1)
        for number in range(first, end):
            block, place = divmod(number - first, self.length)
            numbers[block, :, place, :, 0], numbers[block, :, place, :, 1] = examples(number), number

        def read(example: int, number: int) -> np.ndarray:
            if example < 0:
                return blank
            if seed is None:
                return dataset.evaluated(example)
            return dataset.trained(example, seed, number, self.problem.data.augment)

        places = numbers.reshape(-1, 2)
        images = stream.batches(read, places, len(places) // len(firsts), self.threads)
        try:
            for start, of_block, pixels in zip(firsts, numbers[..., 0], images, strict=True):
                yield Batches(
                    np.full(len(self.replicas), start, np.int32),
                    of_block.astype(np.int32),
                    pixels.reshape(*of_block.shape, *dataset.shape),
                    dataset.labels[of_block],
                )
        finally:
            images.close()
