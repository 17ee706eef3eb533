"""A pilot: on seeds that no claim is judged by, the rates out of which each side of a claim gets its own best."""

from collections.abc import Sequence
from dataclasses import replace

from classicnets.claims.claim import Case, Observation, Preset, Row, by_seed
from classicnets.claims.criteria import Explored


def pilot(
    cases: Sequence[Case],
    rates: Sequence[float],
    metrics: Sequence[str],
    *,
    every: int = 1,
    seeds: Sequence[int] = (100,),
    observe: Observation | None = None,
) -> Preset:
    """Return a preset that trains every case at every rate, and shows `metrics` of each; it has no record."""

    def seen(rows: Sequence[Row]) -> dict:
        """What each case came to at each rate."""
        names = dict.fromkeys(row["case"] for row in rows)
        return {"case and rate": {name: {m: by_seed(rows, m, case=name).tolist() for m in metrics} for name in names}}

    tried = [
        replace(case, name=f"{case.name}-{rate:g}", recipe=replace(case.recipe, learning_rate=rate))
        for case in cases
        for rate in rates
    ]
    return Preset(
        tried,
        every=every,
        seeds=seeds,
        sentence=f"at each of the rates {', '.join(f'{rate:g}' for rate in rates)}",
        note="What rates of other presets are chosen by.",
        statistic=seen,
        criterion=Explored({}),
        observe=observe,
    )
