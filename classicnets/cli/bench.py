"""The command bench: a forward pass and a training step of networks, timed, beside a peer's."""

import json
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg

from classicnets.cli.options import execution_options, leading, network, parse, require_sizes, with_groups
from classicnets.models import ENTRIES, create, input_size
from classicnets.report.text import table

PAIR = ("forward", "forward and backward")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time the forward pass and a training step of networks on random images, each called twice before, in turn."""

    batch: Annotated[int, arg(aliases=["--batch-size", "--bs"])] = 128
    """Number of images of a step."""
    side: Annotated[int | None, arg(aliases=["--image-size"])] = None
    """Height and width of the images in pixels; none for the size that the network's paper uses."""
    repeats: int = 9
    """Number of measurements; fewer, but three at least, where they would take longer than `seconds`."""
    seconds: float = 120.0
    """Seconds for the measurements of a network, after compiling."""
    forward: bool = False
    """Time the forward pass alone."""
    forms: bool = False
    """Time the training step in each way of computing it: flax's own gradient, blocks in a loop, steps fused."""
    start: bool = False
    """Time, once, what comes before the second step: drawing the parameters, tracing, compiling, the first step."""
    layers: bool = False
    """Give the shape of each layer's output too."""
    peer: Literal["torch", "keras"] | None = None
    """Time torchvision's or Keras's network beside it, alternating, and give the ratio; none for none."""
    json: bool = False
    """Print a JSON list of objects."""


def bench(arguments: list[str]) -> int:
    """Time networks."""
    names, rest = leading(arguments)
    if not names:
        raise ValueError(f"name a model first; choose from {', '.join(ENTRIES)}")
    cls: Any = Bench
    for name in names:
        create(name)  # which raises with the nearest name
    if len(names) == 1:  # the ways of running it are what is timed
        without = [*execution_options(type(create(names[0]))), *Bench.__dataclass_fields__]
        cls = with_groups(Bench, network=network(names[0], without=without))
    options = parse(cls, rest, f"classicnets bench {' '.join(names)}")
    require_sizes({"batch_size": options.batch, "image_size": options.side or 1, "repeats": options.repeats})
    if options.forms and (options.peer or options.forward):
        raise ValueError("forms times the training step alone: give it without peer and forward")
    if options.start and (options.peer or options.forward or options.forms or options.layers):
        raise ValueError("start times the first step of our networks: give it without peer, forward, forms and layers")
    rows, measured = [], _start if options.start else _rows
    for name in names:
        fields = vars(options.network) if len(names) == 1 else {}
        rows += measured(name, fields, options)
    if options.json:
        print(json.dumps(rows))
        return 0
    print("\n".join(_starts(rows) if options.start else _table(rows)))
    if options.layers:
        for name in names:
            print()
            print("\n".join(_layers(name, vars(options.network) if len(names) == 1 else {}, options.side)))
    return 0


def _start(name: str, fields: dict[str, Any], options: Any) -> list[dict[str, Any]]:
    """Return the row of a network whose start is timed."""
    from classicnets.training import benchmark

    side = options.side or input_size(name)
    seconds = benchmark.started(create(name, **fields), options.batch, side)
    sizes = {"model": name, "batch": options.batch, "side": side}
    return [sizes | {f"{part}_seconds": value for part, value in seconds.items()}]


def _starts(rows: list[dict[str, Any]]) -> list[str]:
    parts = ("draw", "trace", "compile", "step")
    cells = [[row["model"], *(f"{row[f'{part}_seconds']:.1f} s" for part in parts)] for row in rows]
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    cache = f"programs compiled before come from {kept}" if kept else "nothing was compiled before"
    return [f"batches of {rows[0]['batch']} images, each time taken once; {cache}", *table(("model", *parts), cells)]


def _rows(name: str, fields: dict[str, Any], options: Any) -> list[dict[str, Any]]:
    """Return the rows of a network: what was measured, and what follows from it."""
    from classicnets.complexity.counts import describe
    from classicnets.training import benchmark

    side, model = options.side or input_size(name), create(name, **fields)
    macs = describe(model, (side, side, 3))["macs"]
    if options.forms:
        measured = benchmark.bench(model, options.batch, side, options.repeats)
    else:
        cases = {"forward": benchmark.forward_case(model, options.batch, side)}
        if not options.forward:
            cases["forward and backward"] = benchmark.step_case(model, options.batch, side)
        cases |= {f"{case}, {peer}": made for case in cases for peer, made in _peer(name, case, options, side)}
        measured = benchmark.measured(cases, options.repeats, options.seconds)
    times = {row["case"]: row["median_ms"] for row in measured}
    found = []
    for row in measured:
        # A backward pass takes twice the products of the forward pass: one for the input, one for the kernel.
        passes = 1 if row["case"].partition(",")[0] == "forward" else 3
        products = macs * options.batch * passes
        seconds = row["mean_ms"] / 1e3
        own = times.get(row["case"].partition(", ")[0]) if ", " in row["case"] and not options.forms else None
        found.append(
            {
                "model": name,
                **row,
                "batch": options.batch,
                "side": side,
                "images_per_second": options.batch / seconds,
                "gflops": 2 * products / seconds / 1e9,
                "ratio": None if own is None else row["median_ms"] / own,
            }
        )
    if options.layers:
        layers = describe(model, (side, side, 3))["layers"]
        shapes = [{"name": layer["name"], "shape": [options.batch, *layer["output"]]} for layer in layers]
        found = [{**row, "layers": shapes} for row in found]
    return found


def _peer(name: str, case: str, options: Any, side: int) -> list[tuple[str, Any]]:
    """Return (what the peer's network is called, the case), none without a peer.

    Raise ValueError for a network that the peer does not have.
    """
    from classicnets.training import peers

    if options.peer is None:
        return []
    train = case != "forward"
    if options.peer == "torch":
        called = ENTRIES[name].torchvision or _alike(name)
        note = "" if ENTRIES[name].torchvision else f" ({_ours(called)} here)"
        made = peers.torch_case
    else:
        called, note, made = _keras(name), "", peers.keras_case
    if not called:
        raise ValueError(f"{options.peer} has no {name}: time it without --peer")
    return [(f"{options.peer} {called}{note}", made(called, options.batch, side, train))]


def _alike(name: str) -> str:
    """Return torchvision's network that is nearest to one of ours that it does not have: of the same depth and kind."""
    match = re.fullmatch(r"(resnet(?:50|101|152))(_v1_slim)?", name)
    return match[1] if match else "googlenet" if name == "inception_v1" else ""


def _ours(called: str) -> str:
    return next(name for name, entry in ENTRIES.items() if entry.torchvision == called)


def _keras(name: str) -> str:
    """Return the name of a network among Keras's applications, "" if it is none of them."""
    if match := re.fullmatch(r"vgg(16|19)", name):
        return f"VGG{match[1]}"
    if match := re.fullmatch(r"resnet(50|101|152)(_v2_slim)?", name):
        return f"ResNet{match[1]}{'V2' if match[2] else ''}"
    return "InceptionV3" if name == "inception_v3" else ""


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        mean = f"{row['mean_ms']:,.1f} +- {row['deviation_ms']:,.1f} ms"
        times = [f"{row['median_ms']:,.1f} ms", mean, str(row["n"])]
        rates = [f"{row['images_per_second']:,.1f}", f"{row['gflops']:,.1f}"]
        memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f} MiB"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        cells.append((row["model"], row["case"], *times, *rates, memory, ratio, f"{row['compile_seconds']:.1f} s"))
    head = ("model", "step", "median", "mean", "n", "images/s", "GFLOP/s", "peak", "times ours", "ready in")
    return [
        f"batches of {rows[0]['batch']} images of {', '.join(sorted({str(row['side']) for row in rows}))} pixels on "
        f"{rows[0]['device']}; GFLOP/s of multiply-adds as two operations, three times the forward pass's in a step",
        *table(head, cells),
    ]


def _layers(name: str, fields: dict[str, Any], side: int | None) -> list[str]:
    from classicnets.complexity.counts import describe

    pixels = side or input_size(name)
    layers = describe(create(name, **fields), (pixels, pixels, 3))["layers"]
    return table((name, "output"), [(layer["name"], "x".join(map(str, layer["output"]))) for layer in layers])
