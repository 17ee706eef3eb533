"""Images that stream are ready as fast as PyTorch's, and take no more memory from one epoch to the next.

JPEGs of 500 x 375 are decoded, cropped to 8 to 100 % of their area, resized to 224 and mirrored: by `data.stream`'s
threads and the device, and by torch's DataLoader with torchvision's transforms on PIL images, whose worker processes,
one a core, live on. The two take turns. A set of 20,000 JPEGs is read for three epochs in a process of its own.
"""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from classicnets.claims import Claim, Preset, Row, main
from classicnets.claims.criteria import Limits

IMAGES, BATCH, REPEATS = 640, 64, 5
MANY = 20_000
SIZE, SMALL = (375, 500), (120, 160)
EPOCHS = """
import sys
from experiments.streaming import memory
print(*memory())
"""


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Return an image whose JPEG is about as long as a photograph's: clouds of several scales, and a little noise."""
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (height // scale + 2, width // scale + 2, 3)) for scale in (120, 40, 12, 4)]
    clouds = [
        np.asarray(
            Image.fromarray(layer.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC), np.float32
        )
        for layer in layers
    ]
    noise = rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(
        np.clip(0.4 * clouds[0] + 0.3 * clouds[1] + 0.2 * clouds[2] + 0.1 * clouds[3] + noise, 0, 255).astype(np.uint8)
    )


def write(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write train/CLASS/N.jpg of `size`, and one test image a class."""
    for i in range(count + 2):
        path = folder / ("train" if i < count else "test") / f"class {i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(i, *size).save(path, quality=90)


def ours(name: str) -> Callable[[], int]:
    """Return what reads one epoch of a prepared set, until it is on the device, and says how many images it was."""
    import jax

    from classicnets.data import DataConfig, load, stream
    from classicnets.data.augmentation import mirrored

    dataset = load(DataConfig(name, validation_size=0, image_size=224, crop="area"))
    count = dataset.sizes["train"] // BATCH * BATCH
    flip = jax.jit(mirrored)
    epochs = iter(range(1_000_000))

    def epoch() -> int:
        number = next(epochs)
        places = np.stack([np.random.default_rng(number).permutation(dataset.sizes["train"])[:count]] * 2, 1)
        for batch in stream.batches(lambda example, step: dataset.trained(example, number, step), places, BATCH):
            flip(jax.random.split(jax.random.key(number), BATCH), batch).block_until_ready()
        return count

    return epoch


def torchs(folder: Path) -> Callable[[], int]:
    """Return what reads one epoch of a folder by torch's DataLoader, and says how many images it was."""
    from torch.utils.data import DataLoader  # pyright: ignore[reportMissingImports]
    from torchvision import transforms  # pyright: ignore[reportMissingImports]
    from torchvision.datasets import ImageFolder  # pyright: ignore[reportMissingImports]

    steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    workers = len(os.sched_getaffinity(0))
    loader = DataLoader(
        ImageFolder(str(folder), transforms.Compose(steps)),
        BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
        multiprocessing_context="spawn",  # a fork of a process with threads may hang
    )
    return lambda: sum(len(labels) for _, labels in loader)


def rates() -> dict[str, list[float]]:
    """Return images a second and core of REPEATS epochs of each, in turn, after one epoch that is not counted."""
    from classicnets.data.prepare import prepare

    times: dict[str, list[float]] = {"classicnets": [], "torch": []}
    with tempfile.TemporaryDirectory() as place:
        os.environ["CLASSICNETS_DATA"] = str(Path(place, "data"))
        write(Path(place, "source"), IMAGES, SIZE)
        prepare("photographs", Path(place, "source"), kept_as="shards")
        epochs = {"classicnets": ours("photographs"), "torch": torchs(Path(place, "source", "train"))}
        for repeat in range(REPEATS + 1):
            for name, epoch in epochs.items():
                began = time.perf_counter()
                count = epoch()
                if repeat:
                    seconds = time.perf_counter() - began
                    times[name].append(count / seconds / len(os.sched_getaffinity(0)))
    return times


def memory() -> list[int]:
    """Return the resident bytes of this process at the end of each of three epochs of MANY images."""
    from classicnets.data.prepare import prepare

    with tempfile.TemporaryDirectory() as place:
        os.environ["CLASSICNETS_DATA"] = str(Path(place, "data"))
        write(Path(place, "source"), MANY, SMALL)
        prepare("many", Path(place, "source"), kept_as="shards")
        epoch = ours("many")
        held = []
        for _ in range(3):
            epoch()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held.append(pages * os.sysconf("SC_PAGE_SIZE"))
        return held


def measure() -> list[dict]:
    """Return median, least and most of n of images a second and core, and the memory after each epoch, in MB."""
    if importlib.util.find_spec("torchvision") is None:
        raise ValueError("this claim compares with torch and torchvision: pip install 'classicnets[peers,stream,jpeg]'")
    words = [sys.executable, "-c", EPOCHS]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    rows = [
        {"case": f"memory after epoch {i} (MB)", "median": b / 1e6, "least": b / 1e6, "most": b / 1e6, "n": 1}
        for i, b in enumerate(map(int, done.stdout.split()), 1)
    ]
    for name, values in rates().items():
        spread = {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}
        rows.append({"case": f"{name} (images/s/core)", **spread})
    return rows


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Ratios of medians."""
    median = {row["case"]: row["median"] for row in rows}
    return {
        "classicnets over torch, images a second and core": median["classicnets (images/s/core)"]
        / median["torch (images/s/core)"],
        "memory after the third epoch over the first": median["memory after epoch 3 (MB)"]
        / median["memory after epoch 1 (MB)"],
    }


claim = Claim(
    name="streaming",
    sentence="images that stream are ready as fast as PyTorch's, in flat memory",
    source="this project",
    statistic=ratios,
    criterion=Limits(
        {
            "classicnets over torch, images a second and core": ">= 1",
            "memory after the third epoch over the first": "<= 1.05",
        }
    ),
    presets={
        "cpu": Preset(
            measure=measure,
            note=f"{IMAGES} synthetic JPEGs of 500 x 375 at quality 90, batches of {BATCH}; {MANY:,} of 160 x 120.",
        )
    },
)

if __name__ == "__main__":
    main(claim, __file__)
