"""classicnets, as training runs it: augmented images of a data set, four steps a call, every value checked."""

from collections.abc import Callable

import jax

from classicnets.models import create
from classicnets.system.settings import pinned
from classicnets.training.benchmark import FUSED, compiled_step
from experiments.peers import Work, serve


def make(work: Work) -> tuple[Callable[[], None], int]:
    """Return the step of `classicnets train`, small images in calls of FUSED, large ones one by one."""
    steps = FUSED if work.side < 64 else 1
    call, state = compiled_step(create(work.network, **work.fields), work.batch, work.side, steps)
    held = [state]

    def step() -> None:
        held[0] = jax.block_until_ready(call(held[0]))

    return step, steps


if __name__ == "__main__":
    with pinned():
        serve(make)
