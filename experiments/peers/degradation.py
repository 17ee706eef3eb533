"""The sweep of `experiments.degradation`, preset quick, in PyTorch: the same nets, data, seeds, steps and evaluations.

A process of one thread for each core takes the twenty runs, the deep ones first. The images are those of the package,
divided at random into sets of the same sizes. Prints the verdict as JSON; logs nothing and saves nothing.
"""

import gzip
import json
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np

from experiments.peers.pytorch import cifar_resnet, functional, nn, torch

SIZES = {"train": 1_408, "validation": 129, "test": 260}


def splits() -> dict[str, tuple[Any, Any]]:
    """Return normalised images [n, 1, 8, 8] and labels of each split, one random division for all runs."""
    packed = (resources.files("classicnets.data") / "digits.csv.gz").read_bytes()
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), np.float32, delimiter=",")
    rows = np.random.default_rng(0).permutation(rows)
    images, labels = torch.from_numpy(rows[:, :64]).reshape(-1, 1, 8, 8), torch.from_numpy(rows[:, 64]).long()
    train = images[: SIZES["train"]]
    images = ((images - train.mean()) / train.std()).contiguous(memory_format=torch.channels_last)
    sizes = list(SIZES.values())
    return dict(zip(SIZES, zip(images.split(sizes), labels.split(sizes), strict=True), strict=True))


def error(model: Any, images: Any, labels: Any, batch: int) -> tuple[float, float]:
    """Return the mean loss and the error in percent."""
    loss, wrong = 0.0, 0
    with torch.no_grad():
        for own, right in zip(images.split(batch), labels.split(batch), strict=True):
            logits = model(own)
            loss += functional.cross_entropy(logits, right, reduction="sum").item()
            wrong += int((logits.argmax(1) != right).sum())
    return loss / len(labels), 100 * wrong / len(labels)


def train(depth: int, shortcut: str, seed: int, recipe: dict, every: int) -> dict:
    """Return a row for the claim's statistic: the run's fields, and its error on the training set at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data, model = splits(), cifar_resnet(depth, shortcut, channels=1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    model = model.to(memory_format=torch.channels_last)
    rate, batch = recipe["learning_rate"], recipe["batch_size"]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=recipe["momentum"], weight_decay=recipe["weight_decay"], fused=True
    )
    images, labels = data["train"]
    found: dict[str, tuple[float, float]] = {}
    step, steps = 0, recipe["epochs"] * (len(images) // batch)
    for epoch in range(1, recipe["epochs"] + 1):
        model.train()
        order = torch.randperm(len(images))
        for chosen in order.split(batch):
            decayed = rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.param_groups[0]["lr"] = recipe["warmup_rate"] if step < recipe["warmup_steps"] else decayed
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            step += 1
        if epoch % every == 0 or epoch == recipe["epochs"]:
            model.eval()
            found = {split: error(model, *held, batch) for split, held in data.items()}
    model.train()
    of_batches = error(model, images, labels, batch)[1]
    errors = {"train_error": found["train"][1], "train_error_batch_statistics": of_batches}
    return {"depth": depth, "shortcut": shortcut, "seed": seed, **errors}


def main() -> None:
    """Train all runs of the preset, and print what the claim's criterion says of them."""
    from experiments.degradation import claim

    trial = claim.trial("quick")
    jobs = sorted(trial.jobs, key=lambda job: -job.model.depth)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(
                train,
                job.model.depth,
                job.model.shortcut,
                job.config.seed,
                asdict(job.config.recipe),
                job.execution.evaluate_every,
            )
            for job in jobs
        ]
        rows = [future.result() for future in futures]
    rows.sort(key=lambda row: row["seed"])
    print(json.dumps({"outcome": trial.criterion.judge(trial.statistic(rows)), "runs": len(rows)}))


if __name__ == "__main__":
    main()
