"""The command recipes: the papers' numbers, each with the place where it stands."""

import json
from dataclasses import dataclass

from tyro.conf import Positional

from classicnets.cli.options import parse
from classicnets.report.text import table
from classicnets.training.recipes import PAPERS, Paper, paper


@dataclass(frozen=True)
class Recipes:
    """List the papers' recipes, or all numbers of some; --recipe of train and sweep takes one, options override it."""

    names: Positional[tuple[str, ...]] = ()
    """Recipes whose numbers are shown; none for a list of all."""
    json: bool = False
    """Print a JSON list of objects."""


def recipes(arguments: list[str]) -> int:
    """List the recipes, or the numbers of some."""
    options = parse(Recipes, arguments, "classicnets recipes")
    chosen = [paper(name) for name in options.names] or list(PAPERS.values())
    if options.json:
        print(json.dumps([_row(one) for one in chosen]))
    elif not options.names:
        print("\n".join(table(("recipe", "source"), [(one.name, one.source) for one in chosen])))
    else:
        for one in chosen:
            print(f"{one.name}: {one.source}")
            rows = [(field, _shown(number.value), number.place) for field, number in one.numbers.items()]
            print("\n".join(table(("field", "value", "place"), rows)))
            print(f"otherwise than there: {one.departures}\n" if one.departures else "")
    return 0


def _row(one: Paper) -> dict:
    numbers = {field: {"value": number.value, "place": number.place} for field, number in one.numbers.items()}
    return {"name": one.name, "source": one.source, "departures": one.departures, "numbers": numbers}


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
