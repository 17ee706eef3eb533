"""What decides a run's numbers, of a network, its data and its configuration; and whether a module is still that."""

import dataclasses
import warnings
from typing import Any

import jax

from classicnets.data import DataConfig, load
from classicnets.data.dataset import defaults
from classicnets.runs import Run
from classicnets.runs.identity import acting_data, acting_recipe, describe, is_ours, source_sha256
from classicnets.runs.identity import facts as identity_facts
from classicnets.system.settings import identifying, pinned
from classicnets.training.config import Config, Execution
from classicnets.training.programs import fitted, has_axis, require_length
from classicnets.training.start import Start


@pinned()
def facts(model: Any, config: Config, execution: Execution | None = None, start: Start | None = None) -> dict:
    """Return all that decides a run's numbers; `runs.identity.digest` of it is the run's identity.

    The number of devices is among them where it changes the algorithm: with batch norm per replica, and for a network
    without the field `axis_name`, whose batch norm and dropout cannot reach over the replicas.

    Raise ValueError, in one sentence, for a network that cannot be trained on the data, or a schedule that cannot act.
    """
    dataset, whole = load(config.data), load(DataConfig(config.data.dataset))
    require_length(config.recipe, dataset)
    devices = _devices_that_count(model, config, execution)
    trace = fitted(model, config.recipe, config.data, devices)
    pool = whole.sizes["train"] + whole.sizes["validation"]
    own = {"train_size": pool - dataset.sizes["validation"], "validation_size": whole.sizes["validation"]}
    data = acting_data(dataclasses.asdict(config.data), {**own, **defaults(config.data)}, dataset.view.crop)
    return identity_facts(
        model=describe(model, trace.program_sha256),
        data={**data, "sha256": dataset.sha256},
        recipe=acting_recipe(dataclasses.asdict(config.recipe), trace.auxiliary),
        seed=config.seed,
        devices=devices,
        settings=identifying(),
        **(start.facts if start else {}),
    )


def _devices_that_count(model: Any, config: Config, execution: Execution | None) -> int | None:
    """Return the number of devices where it changes the algorithm, else None."""
    if config.recipe.batch_norm == "per_replica" or not has_axis(model):
        return (execution.devices if execution else None) or jax.device_count()
    return None


def require_same_program(run: Run, model: Any, config: Config) -> None:
    """Raise ValueError if a module that is not ours computes something else than what `run` was trained with.

    Where another jax traced it, that cannot be told: warn of it.
    """
    recorded = run.facts["model"]
    if is_ours(model):
        return
    if "program_sha256" not in recorded:
        by_source(run, model)
        return
    if fitted(model, config.recipe, config.data, run.facts.get("devices")).program_sha256 == recorded["program_sha256"]:
        return
    if recorded.get("jax") != jax.__version__:
        warnings.warn(
            f"{recorded['module']} of {run.id} was traced by jax {recorded.get('jax')}; whether it is the same under "
            f"jax {jax.__version__} cannot be told",
            stacklevel=3,
        )
        return
    raise ValueError(f"{recorded['module']} computes something else now than when {run.id} was trained")


def by_source(run: Run, model: Any) -> dict:
    """Return the facts of a run that is named by its module's source text; raise ValueError if that has changed."""
    recorded = run.facts["model"].get("source_sha256")
    if recorded is None or source_sha256(type(model)) != recorded:
        raise ValueError(
            f"{run.facts['model'].get('module')} computes something else now than when {run.id} was begun: it cannot "
            "be continued to the same numbers"
        )
    return run.facts
