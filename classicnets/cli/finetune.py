"""The command finetune: a run that starts from a run's weights or anyone's, with a new head, and parts frozen.

Anyone's weights keep the moments that they were trained with, and so does what was trained on from them; a run whose
moments were its data's goes on with those of the new data, as fork does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tyro.conf import Positional

from classicnets.cli.options import early, first_word, group, network, parse, root_of, runs_root, with_groups
from classicnets.cli.recorded import Rebuilt
from classicnets.cli.training import NAME_A_RUN, Processes, configured, labelled, trained
from classicnets.cli.weights import SourceName
from classicnets.data import DataConfig, load
from classicnets.data.sources import source_of
from classicnets.models import create, vgg
from classicnets.models.network import Network
from classicnets.system.words import nearest
from classicnets.training import Config, Execution, Parent, Recipe, Start
from classicnets.training.start import Weights
from classicnets.weights import stored
from classicnets.weights.convert import shapes_of


@dataclass(frozen=True, kw_only=True)
class Finetune(Processes):
    """Train a network on other data from trained weights: its head is new, the rest goes on or stays as it is."""

    start: Positional[str]
    """Run, by its id or directory, or file of weights, whose network is trained on."""
    source: SourceName | None = None
    """Library whose weights the file holds; none for what the file tells."""
    model: str | None = None
    """Name of the network in the file; none for what the file tells."""
    into: str | None = None
    """Name of the network that is trained, with the layers that `layers` says; none for that of the weights."""
    layers: tuple[str, ...] = ()
    """Layers that come from the weights; none for all but the head, and for a deeper VGG those of the paper's section
    3.1: the first four convolutions and the dense layers."""
    freeze: tuple[str, ...] = ()
    """Patterns of layers that stay as they are, batch statistics too: "*" is all but the head, "block[12]" two stages;
    none for none."""
    head_rate: float = 10.0
    """Factor of the head's learning rate."""
    experiment: str = "finetune"
    """Name of the folder of the run, below the runs directory."""


def finetune(arguments: list[str]) -> int:
    """Train a network from trained weights on other data."""
    word, _ = first_word(arguments, NAME_A_RUN[0] + " or file of weights", NAME_A_RUN[1])
    if not {part.partition("=")[0] for part in arguments} & {"--dataset", "--help", "-h"}:
        raise ValueError("name the data to train on with --dataset; 'classicnets data list' shows them")
    name, known, source, before = _opened(word, arguments)
    into = early("into", arguments) or name
    shown = known if into == name else {}
    groups = {
        "network": network(into, shown, without=["num_classes", *(field.name for field in fields(Finetune))]),
        "data": group(DataConfig, before),
        "recipe": group(Recipe),
        "config": group(Config, without=["data", "recipe"]),
        "execution": group(Execution),
    }
    options = parse(with_groups(Finetune, **groups), arguments, "classicnets finetune")
    if not 0 <= options.head_rate < float("inf"):
        raise ValueError(f"head_rate must be at least 0, got {options.head_rate}")
    config = configured(options)
    if before and (colours := source_of(config.data.dataset).shape[2]) != len(before["mean"]):
        raise ValueError(f"{word} reads {len(before['mean'])} colours, {config.data.dataset} has {colours}")
    config.check()
    classes = load(config.data).classes
    model = create(into, **{**shown, **vars(options.network), "num_classes": classes})
    head = head_of(into, {**shown, **vars(options.network), "num_classes": classes})
    layers = options.layers or (vgg.WARM if into != name and isinstance(model, vgg.VGG) else ())
    if into != name and not layers:
        raise ValueError(f"layers must name those that {into} takes from {name}, got none")
    frozen = frozen_by(options.freeze, model, into, head)
    rates = tuple(f"{layer}={options.head_rate:g}" for layer in head if options.head_rate != 1)
    config = replace(config, recipe=replace(config.recipe, rates=(*config.recipe.rates, *rates)))
    config.check()
    taken = tuple(layer for layer in layers if layer not in {part.partition("/")[0] for part in head}) or None
    start = Start(source, layers=taken, fresh=() if taken else head, frozen=frozen)
    label = labelled(f"{into}-from-{Path(word).stem}", options)
    return trained(model, config, options, label, (runs_root(options.runs), options.experiment), start)


def head_of(name: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the layers whose shapes depend on the number of classes: the logits', and those of auxiliary heads."""
    counts = known["num_classes"], known["num_classes"] + 1
    one, other = (shapes_of(name, {**known, "num_classes": count}) for count in counts)
    differing = [path for path in one if one[path].shape != other[path].shape and path[0] == "params"]
    return tuple(dict.fromkeys("/".join(path[1:-1]) for path in differing))


def frozen_by(patterns: Sequence[str], model: Network, name: str, head: Sequence[str]) -> tuple[str, ...]:
    """Return the layers whose names, or those of what they lie in, fit one of the patterns, without the head.

    Raise ValueError, with the nearest name, for a pattern that fits none.
    """
    known = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in ("parent", "name")}
    paths = {path[1:-1] for path in shapes_of(name, known)}
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = ["/".join(path) for path in sorted(paths) if any(fnmatchcase(n, pattern) for n in _within(path))]
        if not fitting:
            layers = {part for path in paths for part in _within(path)}
            raise ValueError(f"freeze names {pattern!r}, which the network does not have{nearest(pattern, layers)}")
        found |= dict.fromkeys(layer for layer in fitting if layer not in head)
    free = [path for path in paths if "/".join(path) not in found]

    def whole(layer: str) -> str:
        """Return what the layer lies in, as far out as all of it is frozen."""
        within = _within(tuple(layer.split("/")))
        return next(name for name in within if not any("/".join(path[: name.count("/") + 1]) == name for path in free))

    return tuple(dict.fromkeys(map(whole, found)))


def _within(path: tuple[str, ...]) -> list[str]:
    """Return the names of a layer and of all that it lies in."""
    return ["/".join(path[:i]) for i in range(1, len(path) + 1)]


def _opened(word: str, arguments: Sequence[str]) -> tuple[str, dict[str, Any], Parent | Weights, dict[str, Any] | None]:
    """Return (network, its fields, where its variables come from, defaults of the data) of a run or a file."""
    path = stored.files.located(Path(word).expanduser())
    if not path.is_file():
        rebuilt = Rebuilt(root_of(arguments), word)
        if rebuilt.name is None:
            raise ValueError(f"{word} is a run of somebody's own module, which fork goes on from")
        data = rebuilt.config.data
        given = {"mean": data.mean, "deviation": data.deviation} if data.mean else None
        return rebuilt.name, dict(rebuilt.fields), Parent.newest(rebuilt.run), given
    weights = stored.load(path, early("source", arguments), early("model", arguments))
    before, variables = weights.preprocessing, weights.variables
    if before.needs_pixel_mean:
        raise ValueError(f"{path} takes off each pixel's mean of its own training images, which other data do not have")
    mean, deviation = (tuple(value * before.divisor for value in of) for of in (before.mean, before.deviation))
    if before.channels == "bgr":  # data are RGB: the first layer reads them in the other order
        mean, deviation, variables = mean[::-1], deviation[::-1], stored.with_turned_colours(variables)
    trees = jax.tree.map(np.asarray, variables)
    return weights.name, dict(weights.fields), Weights(weights.sha256, trees), {"mean": mean, "deviation": deviation}
