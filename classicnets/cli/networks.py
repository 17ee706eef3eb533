"""The commands on networks: models, describe."""

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from classicnets.cli.options import execution_options, model_first, network, parse, require_sizes, with_groups
from classicnets.models import ENTRIES, create, fields_of, input_size
from classicnets.report.text import table
from classicnets.weights.sources import sources_of


@dataclass(frozen=True)
class Models:
    """List the networks by name, with their counts for one image of the size that their paper uses."""

    filter: str = ""
    """Part of the names to list."""
    json: bool = False
    """Print a JSON list of objects."""


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Show a network layer by layer, its totals, and what its paper prints beside what is counted."""

    image_size: int | None = None
    """Height and width of the images in pixels; none for the size that the network's paper uses."""
    image_channels: int = 3
    """Number of channels of the images."""
    batch: Annotated[int | None, arg(aliases=["--batch-size", "--bs"])] = None
    """Number of images of a training step whose memory is told, which compiles it; none for no step."""
    json: bool = False
    """Print a JSON object."""


def models(arguments: list[str]) -> int:
    """List the networks."""
    options = parse(Models, arguments, "classicnets models")
    entries = {name: entry for name, entry in ENTRIES.items() if options.filter in name}
    if not entries:
        raise ValueError(f"no model's name contains {options.filter!r}; choose from {', '.join(ENTRIES)}")
    rows = [
        {
            "name": name,
            "parameters": e.parameters,
            "macs": e.macs,
            "input_size": e.size,
            "source": e.source,
            "weights": sources_of(name),
        }
        for name, e in entries.items()
    ]
    cells = [
        (
            *(r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e6:,.1f} M", str(r["input_size"]), r["source"]),
            ", ".join(r["weights"]),
        )
        for r in rows
    ]
    head = ("model", "parameters", "multiply-adds", "pixels", "source", "weights from")
    print(json.dumps(rows) if options.json else "\n".join(table(head, cells)))
    return 0


def describe(arguments: list[str]) -> int:
    """Show a network layer by layer."""
    from classicnets.complexity.counts import describe
    from classicnets.complexity.printed import compared
    from classicnets.report.description import description

    name, rest = model_first(arguments)
    options = parse(with_groups(Describe, network=network(name)), rest, f"classicnets describe {name}")
    size = input_size(name) if options.image_size is None else options.image_size
    require_sizes({"image_size": size, "image_channels": options.image_channels})
    if options.batch is not None:
        require_sizes({"batch": options.batch})
    model = create(name, **vars(options.network))
    counted = describe(model, (size, size, options.image_channels))
    counted |= {"name": name, "source": ENTRIES[name].source, "note": ENTRIES[name].note, "printed": []}
    if (size, options.image_channels) == (input_size(name), 3):
        defaults = {field: default for field, _, default in fields_of(name)}
        changes_no_count = ("dtype", *execution_options(type(model)))
        fields = {field: getattr(model, field) for field in defaults if field not in changes_no_count}
        counted["printed"] = list(compared(name, fields, defaults, counted))
    counted["training"] = None
    if options.batch is not None:
        from classicnets.training.benchmark import training_memory

        memory = training_memory(model, options.batch, (size, size, options.image_channels))
        counted["training"] = {"batch": options.batch, "array_bytes": memory.arrays, "process_bytes": memory.process}
    print(json.dumps(counted) if options.json else description(counted))
    return 0
