"""How a run starts: from its seed, a run's checkpoint or weights of elsewhere, whole or in part, with parts frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from classicnets.runs import Run, checkpoints
from classicnets.training.optimizer import Average, is_part, name_of, part_of, with_part
from classicnets.training.programs import Trainer, require_layer
from classicnets.training.step import TrainState


@dataclass(frozen=True)
class Parent:
    """The checkpoint of another run, told by its manifest: its parameters, not their average, and batch statistics."""

    run: Run
    step: int
    manifest_sha256: str

    @classmethod
    def newest(cls, run: Run) -> "Parent":
        """Return the newest good checkpoint of `run`; raise ValueError if there is none."""
        step = checkpoints.newest_good(run.checkpoints)
        if step is None:
            raise ValueError(f"run {run.id} holds no good checkpoint")
        return cls(run, step, checkpoints.manifest_sha256(run.checkpoints, step))

    @property
    def facts(self) -> dict:
        return {"run": self.run.id, "step": self.step, "manifest_sha256": self.manifest_sha256}

    def variables(self) -> dict[str, Any]:
        """Return {"params", "batch_stats"}; raise ValueError if the checkpoint is gone or damaged."""
        root = self.run.checkpoints
        whole = self.step in checkpoints.steps(root) and checkpoints.damage(root, self.step) is None
        if not whole or checkpoints.manifest_sha256(root, self.step) != self.manifest_sha256:
            raise ValueError(f"checkpoint {self.step} of {self.run.id}, from which this run starts, is gone or damaged")
        return checkpoints.variables(root, self.step)


@dataclass(frozen=True)
class Made:
    """Variables that a program makes of those with which another run ended, told by the digest of its parameters.

    A program subclasses it with its `variables`. As a record tells of it, it names a run, and continues one that has a
    checkpoint.
    """

    run: Run
    step: int
    parameters_sha256: str
    made_by: str
    """The program and its version, which is part of the run's name: a number to be raised when it makes others."""

    @property
    def facts(self) -> dict:
        return {"run": self.run.id, **{name: getattr(self, name) for name in ("step", "parameters_sha256", "made_by")}}

    def variables(self) -> Mapping[str, Any]:
        """Return {"params", "batch_stats"}; raise ValueError where the program is not at hand."""
        raise ValueError(f"what {self.made_by} made of {self.run.id} must be given: start that program again")


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of elsewhere, which the caller has read: {"params", "batch_stats"} by our names, and their SHA-256.

    Without `trees`, as a record tells of them, they name a run, and continue one that has a checkpoint.
    """

    sha256: str
    trees: Mapping[str, Any] | None = None

    def variables(self) -> Mapping[str, Any]:
        """Return the trees; raise ValueError where they were not given."""
        if self.trees is None:
            raise ValueError(f"the weights of SHA-256 {self.sha256[:12]}..., from which this run starts, must be given")
        return self.trees


@dataclass(frozen=True, eq=False)
class Start:
    """What a run begins with: a seed's initial state, in which a source's variables replace those of `layers`.

    Simonyan & Zisserman's warm start (2015, section 3.1) is the first four convolutions and the dense layers of vgg11:
    `Start(Parent.newest(run), layers=("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"))`.
    """

    source: "Parent | Made | Weights | None" = None
    """Where the variables come from; None for the seed alone."""
    layers: tuple[str, ...] | None = None
    """Names of layers that come from the source, with all that lies in them; None for all."""
    fresh: tuple[str, ...] = ()
    """Names of layers that keep the seed's values, as the head of a network that is trained for other classes."""
    frozen: tuple[str, ...] = ()
    """Names of layers that stay as they begin: no update, no decay, and batch norm by its running statistics."""

    @classmethod
    def of_record(cls, run: Run) -> "Start | None":
        """Return how a recorded run began, None for a plain start from its seed; weights are named, not read."""
        parent, rest = run.facts.get("parent"), run.facts.get("start", {})
        if not (parent or rest):
            return None
        source = Weights(rest["weights_sha256"]) if "weights_sha256" in rest else None
        if parent:
            kind = Made if "made_by" in parent else Parent
            source = kind(**{**parent, "run": Run(run.path.parent / parent["run"])})
        return cls(source, **{key: tuple(rest[key]) for key in ("layers", "fresh", "frozen") if key in rest})

    @property
    def facts(self) -> dict:
        """{"parent": of a checkpoint, "start": of anything else}, what of it decides a run's numbers."""
        parent = self.source.facts if isinstance(self.source, Parent | Made) else None
        rest: dict[str, Any] = {"weights_sha256": self.source.sha256} if isinstance(self.source, Weights) else {}
        rest |= {} if self.layers is None else {"layers": sorted(set(self.layers))}
        rest |= {key: sorted(set(names)) for key in ("fresh", "frozen") if (names := getattr(self, key))}
        return {"parent": parent, "start": rest or None}

    def variables(self, trainer: Trainer) -> dict[str, dict[str, np.ndarray]]:
        """Return {"params": {name: array}, "batch_stats": ...} that replace the seed's.

        Raise ValueError for a layer that one of the two lacks, whose shapes differ, or a source that is not there.
        """
        if self.source is None:
            return {}
        state, source = trainer.abstract_state(), self.source.variables()
        names = list(_leaves(state.params))
        for field in ("layers", "fresh"):
            for layer in getattr(self, field) or ():
                require_layer(field, layer, names)
        replaced = {}
        for collection in ("params", "batch_stats"):
            here, there = (
                {name: leaf for name, leaf in _leaves(tree).items() if self._takes(name)}
                for tree in (getattr(state, collection), source.get(collection) or {})
            )
            for name in sorted(here if self.layers is not None else here | there):
                shapes = [leaves[name].shape if name in leaves else None for leaves in (there, here)]
                if shapes[0] != shapes[1]:
                    raise ValueError(f"{name} has shape {shapes[0]} in the source, {shapes[1]} here")
            replaced[collection] = {name: np.asarray(there[name], np.float32) for name in here}
        return replaced

    def _takes(self, name: str) -> bool:
        return (self.layers is None or is_part(name, self.layers)) and not is_part(name, self.fresh)


def started(state: TrainState, variables: Mapping[str, Mapping[str, np.ndarray]]) -> TrainState:
    """Return a seed's state with `variables` of `Start.variables` in it, in a moving average of parameters too."""

    def replaced(tree: Any, values: Mapping[str, np.ndarray]) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, leaf: values.get(name_of(path), leaf), tree)

    if not variables:
        return state
    params = replaced(state.params, variables["params"])
    average = part_of(state.opt_state, Average)
    return state.replace(
        params=params,
        batch_stats=replaced(state.batch_stats, variables["batch_stats"]),
        opt_state=state.opt_state if average is None else with_part(state.opt_state, Average(params)),
    )


def _leaves(tree: Any) -> dict[str, Any]:
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
