"""Claims about what is counted, not trained: each number that is stated, beside ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from classicnets.claims.claim import Claim, Preset, Row
from classicnets.claims.criteria import Exact


@dataclass(frozen=True)
class Stated:
    """One number of a claim."""

    quantity: str
    """What is counted, with its unit."""
    bound: str
    """As stated, such as "= 60", judged at the digits that it shows, or "< 1"."""
    where: str
    """Who states it, and where."""
    count: Callable[[], float]
    """Return ours."""


def exact(name: str, sentence: str, source: str, stated: Sequence[Stated], note: str = "") -> Claim:
    """Return the claim that every number stated is ours; its one preset, `counts`, takes seconds."""

    def measure() -> list[dict]:
        return [
            {"quantity": one.quantity, "counted": one.count(), "stated": one.bound, "where": one.where}
            for one in stated
        ]

    return Claim(
        name=name,
        sentence=sentence,
        source=source,
        stated=f"{stated[0].bound.removeprefix('= ')} ({stated[0].quantity})",
        statistic=counted,
        criterion=Exact({one.quantity: one.bound for one in stated}),
        presets={"counts": Preset(measure=measure, note=note)},
    )


def counted(rows: Sequence[Row]) -> dict[str, float]:
    """Counts of our networks."""
    return {row["quantity"]: row["counted"] for row in rows}


@cache
def counts(name: str, **fields: Any) -> Mapping[str, Any]:
    """Return `complexity.counts.describe` of a network by its name, for one image of the size that it is entered with.

    Its "layers" are by name.
    """
    from classicnets.complexity.counts import describe
    from classicnets.models import ENTRIES, create

    side = ENTRIES[name].size
    found = describe(create(name, **fields), (side, side, 3))
    return {**found, "layers": {layer["name"]: layer for layer in found["layers"]}}
