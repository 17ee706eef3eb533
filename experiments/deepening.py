"""A trained plain network made deeper by layers that change nothing (He et al., CVPR 2016, section 1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import classicnets
from classicnets.claims import Preset, Row, by_seed
from classicnets.claims.criteria import EverySeed
from classicnets.data import DataConfig
from classicnets.models import stacks
from classicnets.models.norm import BatchNorm
from classicnets.report.figures import training_curves
from classicnets.runs import Run
from classicnets.training import Made, Parent, Recipe, Start
from experiments.nets import plain_and_residual

BLOCKS = ("block1", "block2", "block3")
TITLES = {
    "none": "plain nets",
    "plain20": "20 layers",
    "plain56": "56 layers",
    "identity56": "20 and 36 that change nothing",
    "again56": "these trained again",
    "slowly56": "these trained slowly",
}
LAYERS = ("conv1", "conv1_norm", *BLOCKS, "logits")


@dataclass(frozen=True)
class Deepened(Made):
    """The variables of a plain CIFAR-style run, with units behind each stage up to a greater depth.

    A new unit is two Dirac kernels, each with a norm of beta = mean and gamma = sqrt(var + epsilon), mean and var those
    of the stage's output in a batch of training, which are its running statistics too. It passes what a ReLU made: by
    running statistics exactly, in training as far as a batch has the moments of others.
    """

    depth: int

    @classmethod
    def to(cls, depth: int, run: Run) -> "Deepened":
        """Return what makes the network with which `run` ended one of `depth`, or leaves it where it is as deep.

        Raise ValueError if the checkpoint of its last step is not good.
        """
        step, last = Parent.newest(run).step, run.status["step"]
        if step != last:
            raise ValueError(f"checkpoint {last} of {run.id}, its last, is gone or damaged")
        return cls(run, step, run.status["parameters_sha256"], f"identity layers to depth {depth}, version 1", depth)

    def variables(self) -> dict[str, Any]:
        """Return {"params", "batch_stats"} of the deeper network."""
        net = classicnets.load(str(self.run.path))
        variables = net.variables
        tree = stacks.split(flatten_dict(variables))
        for block, (mean, variance) in moments(net, variables).items():
            channels = len(mean)
            dirac = np.zeros((3, 3, channels, channels), np.float32)
            dirac[1, 1] = np.eye(channels)
            scale = np.sqrt(variance + BatchNorm.epsilon)
            for unit in range(net.model.depth // 6 + 1, self.depth // 6 + 1):
                for k in (1, 2):
                    place = block, stacks.name_of(unit, unit)
                    norm = {"params": {"scale": scale, "bias": mean}, "batch_stats": {"mean": mean, "var": variance}}
                    tree["params", *place, f"conv{k}", "kernel"] = dirac
                    tree |= {(part, *place, f"norm{k}", name): v for part, of in norm.items() for name, v in of.items()}
        deeper, image = net.model.clone(depth=self.depth), np.zeros((1, *net.trainer.dataset.shape), np.float32)
        paths = flatten_dict(jax.eval_shape(lambda: deeper.init(jax.random.key(0), image, train=False)))
        return unflatten_dict(stacks.join(tree, paths))


def moments(net: Any, variables: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {block: (mean, biased variance) of each channel of its output in training, over the images of a batch}.

    Means over the whole batches of an epoch, in the order of the data set: what a norm behind the block has to undo.
    """
    dataset, batch = net.trainer.dataset, net.config.recipe.batch_size
    first, size = dataset.span("train")

    @jax.jit
    def outputs(images: jax.Array) -> dict[str, jax.Array]:
        return classicnets.features(net.model, variables, net.trainer.prepared(images), BLOCKS, train=True)

    sums: dict[str, Any] = dict.fromkeys(BLOCKS, 0.0)
    for i in range(first, first + size - batch + 1, batch):
        for block, values in outputs(dataset.shown(np.arange(i, i + batch))).items():
            x = np.asarray(values, np.float64)
            sums[block] += np.stack([x.mean((0, 1, 2)), x.var((0, 1, 2))]) / (size // batch)
    return {block: tuple(of.astype(np.float32)) for block, of in sums.items()}


def kept(run: Run) -> Start:
    """Return a start from a run made 56 layers deep, in which nothing is trained."""
    return Start(Deepened.to(56, run), frozen=LAYERS)


def going_on(run: Run) -> Start:
    """Return a start from a run made 56 layers deep."""
    return Start(Deepened.to(56, run))


def identity(rows: Sequence[Row]) -> dict:
    """Train error of plain-56 from scratch minus that of plain-20 with identity layers, in points; change: the most
    that these layers change it, by running or by each batch's statistics. Explored: what training adds to it then.
    """
    names = ("plain20", "plain56", "identity56", "again56", "slowly56")
    running, batch = (
        {case: by_seed(rows, metric, case=case) for case in names}
        for metric in ("train_error", "train_error_batch_statistics")
    )
    return {
        "scratch minus identity": running["plain56"] - running["identity56"],
        "change": np.maximum(*(np.abs(of["identity56"] - of["plain20"]) for of in (running, batch))),
        "trained again": running["again56"] - running["identity56"],
        "trained slowly": running["slowly56"] - running["identity56"],
    }


def preset(data: DataConfig, recipe: Recipe) -> Preset:
    """Return plain-20 and plain-56 from scratch, the first made as deep as the second, and what training does to it."""
    nets = {case.name: case for case in plain_and_residual(data, [recipe])}
    plain = [nets["plain20"], nets["plain56"]]
    made = replace(
        plain[1], name="identity56", recipe=replace(recipe, steps=1, warmup_steps=0), source="plain20", start=kept
    )
    slow = replace(recipe, schedule="constant", learning_rate=0.01, warmup_steps=0)
    after = [
        replace(made, name=name, recipe=own, start=going_on) for name, own in (("again56", recipe), ("slowly56", slow))
    ]
    return Preset(
        [*plain, made, *after],
        every=2,
        seeds=range(30, 35),
        sentence="a plain net of 20 layers with 36 that change nothing fits better than one of 56 from scratch",
        note="The nets and the recipe of `quick` on other seeds, of which it is not known what depth costs. identity56 "
        "is plain-20 with units of Dirac kernels and norms that are the identity, one step with all layers frozen. "
        "Explored beside the criterion: going on from there by the whole recipe again, and at a constant rate of 0.01. "
        "In a pilot on seeds 100 to 104 the difference was 33 to 52 points, the change 0; the recipe again added 0 to "
        "3.7 points, the constant rate 0.",
        statistic=identity,
        criterion=EverySeed({"scratch minus identity": "> 5", "change": "< 0.2"}),
        figure=partial(training_curves, panel="shortcut", line="case", titles=TITLES),
    )
