"""What the papers print of their networks, beside what is counted."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from classicnets.models import ENTRIES


def compared(
    name: str, fields: Mapping[str, Any], defaults: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield each number printed of the network `name` with `fields`, beside the count in `found`, from `describe`.

    As {"quantity", "layers", "printed", "where", "counted", "verdict", "why"}; none for a network that differs
    from the printed one in a field.
    """
    for printed in ENTRIES[name].printed:
        if {**defaults, **printed.fields} != {**defaults, **fields}:
            continue
        layers = [
            layer
            for layer in found["layers"]
            if any(layer["name"] == one or layer["name"].startswith(f"{one}/") for one in printed.layers)
        ]
        if printed.quantity == "outputs":
            counted = sum(math.prod(layer["output"]) for layer in layers)
        else:
            counted = sum(layer[printed.quantity] for layer in layers) if printed.layers else found[printed.quantity]
        verdict = printed.judge(counted)
        yield {
            "quantity": printed.quantity,
            "layers": list(printed.layers),
            "printed": printed.text,
            "where": printed.where,
            "counted": counted,
            "verdict": verdict,
            "why": printed.why if verdict == "differs" else "",
        }
