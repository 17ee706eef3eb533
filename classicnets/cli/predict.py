"""The command predict: what a run's network, or anyone's weights, see in images."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from classicnets.cli.options import runs_root
from classicnets.cli.recorded import load
from classicnets.cli.weights import Told, line_of, opened, told
from classicnets.report.progress import Count
from classicnets.report.text import line, table
from classicnets.system import caches, writing

EXIT_SOME_BAD = 1


@dataclass(frozen=True, kw_only=True)
class Predict(Told):
    """Say what a network sees in images: its likeliest classes and their probabilities."""

    words: Positional[tuple[str, ...]]
    """RUN, unless --weights is given, then image files and folders of them."""
    weights: Path | None = None
    """File of weights, one that `weights import` wrote or a library's own; none for those of RUN."""
    runs: str = "runs"
    """Directory below which runs are kept."""
    top: int = 5
    """Number of classes that are given for an image."""
    features: tuple[str, ...] = ()
    """Layers whose outputs are stored in `out`, as `classicnets describe` names them; none for none."""
    out: Path | None = None
    """File of the features, .npz: an array a layer, and "images", the names of the files."""
    picture: Path | None = None
    """File, .png, to which images are drawn beside their classes, with the first layer's filters; none for none."""


def predict(arguments: list[str]) -> int:
    """Print what a network sees in images."""
    from classicnets.inference.net import BATCH, Guess
    from classicnets.inference.pictures import SHOWN, picture
    from classicnets.inference.reading import listed, read

    options, fields = told(Predict, arguments, "classicnets predict")
    words = options.words
    if options.weights is None and (options.source or options.model):
        raise ValueError("source and model are of weights, which --weights names")
    if not words or (options.weights is None and len(words) < 2):
        raise ValueError("name a run, or weights with --weights, and then one image or more")
    if bool(options.features) != bool(options.out):
        raise ValueError("features and out are given together")
    for option, path, suffix in (("out", options.out, ".npz"), ("picture", options.picture, ".png")):
        if path and path.suffix != suffix:
            raise ValueError(f"{option} must end in {suffix}, got {path}")
    if options.top < 1:
        raise ValueError(f"top must be at least 1, got {options.top}")
    if options.weights is None:
        net, words = load(words[0], str(runs_root(options.runs))), words[1:]
    else:
        net = opened(options.weights, options, fields)
    paths = listed(words)
    caches.use_cache()
    answers, drawn, layers = [], [], []
    with Count("looking at images") as count:
        for start in range(0, len(paths), BATCH):
            batch = list(read(paths[start : start + BATCH]))
            good = [one for one in batch if one.image is not None]
            images = [one.image for one in good if one.image is not None]
            guesses = iter(net.predict(images, options.top) if images else [])
            if images and options.features:
                layers.append(net.features(images, options.features))
            for one in batch:
                if one.image is None:
                    answers.append({"image": str(one.path), "error": one.reason})
                    continue
                seen: list[Guess] = next(guesses)
                answers.append({"image": str(one.path), "top": [guess._asdict() for guess in seen]})
                if len(drawn) < SHOWN:
                    drawn.append((one.path, one.image, seen))
            count(min(start + BATCH, len(paths)), len(paths))
    if options.out and layers:
        _write_features(options.out, layers, [answer["image"] for answer in answers if "top" in answer])
    if options.picture and drawn:
        writing.replace(options.picture, picture(net, drawn))
    _print(net.facts(), answers, options.json)
    bad = [answer for answer in answers if "error" in answer]
    for answer in bad:
        print(line(f"classicnets: {answer['image']}: {answer['error']}"), file=sys.stderr)
    return EXIT_SOME_BAD if bad else 0


def _write_features(path: Path, layers: list[dict[str, np.ndarray]], images: list[str]) -> None:
    import io

    buffer = io.BytesIO()
    arrays = {name: np.concatenate([part[name] for part in layers]) for name in layers[0]}
    np.savez(buffer, images=np.array(images), **arrays)  # pyright: ignore[reportArgumentType]
    writing.replace(path, buffer.getvalue())


def _print(facts: dict[str, Any], answers: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"network": facts, "images": answers}))
        return
    print(line_of(facts) if "source" in facts else "\n".join(f"{key}: {value}" for key, value in facts.items()))
    rows = [
        (answer["image"] if i == 0 else "", guess["name"], f"{100 * guess['probability']:.2f} %")
        for answer in answers
        if "top" in answer
        for i, guess in enumerate(answer["top"])
    ]
    print("\n".join(table(("image", "class", "probability"), rows)))
