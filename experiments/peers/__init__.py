"""One training step of the same networks in classicnets and in other frameworks, each a process that is timed in turn.

`python -m experiments.peers.NAME NETWORK` makes two steps, prints the seconds from its start to the end of the first,
and then makes one measurement for each line that it reads, printing milliseconds a step. At the end of its input it
prints the most bytes that it had in memory at once. `experiments.speed` starts them and lets them take turns.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from classicnets.system.environment import peak_resident_bytes


@dataclass(frozen=True)
class Work:
    """A network of ours, and the images of one step: [batch, side, side, 3]; classes as the network has them."""

    network: str
    batch: int
    side: int
    fields: dict[str, Any] = field(default_factory=dict)


WORKS = {
    "resnet20": Work("cifar_resnet", 128, 32, {"depth": 20}),
    "resnet56": Work("cifar_resnet", 128, 32, {"depth": 56}),
    "alexnet_owt": Work("alexnet_owt", 32, 224),
    "vgg11": Work("vgg11", 8, 224),
    "resnet18": Work("resnet18", 16, 224),
    "resnet50_v1_5": Work("resnet50_v1_5", 8, 224),
    "inception_v1_bn": Work("inception_v1_bn", 16, 224),
    "inception_v3": Work("inception_v3", 4, 299),
}


def serve(make: Callable[[Work], tuple[Callable[[], None], int]]) -> None:
    """Be a process that is timed; make: the work -> what makes `steps` steps and ends with them, and `steps`."""
    began = time.perf_counter()
    step, steps = make(WORKS[sys.argv[1]])
    step()
    print(time.perf_counter() - began, flush=True)
    step()
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        print(1e3 * (time.perf_counter() - began) / steps, flush=True)
    print(peak_resident_bytes(), flush=True)
