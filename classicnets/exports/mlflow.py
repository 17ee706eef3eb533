"""Finished runs as those of an MLflow tracking store."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classicnets.runs.run import Run
from classicnets.runs.table import flat, numbers, plain
from classicnets.system.writing import WriteFailed

# The states of the runs that are exported, and MLflow's names for them.
STATUS = {"complete": "FINISHED", "diverged": "FAILED"}
# Unless told otherwise, MLflow reports its use to its makers, prints links on standard output, refuses folders, and
# asks a server that does not answer for four minutes.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


def export(rows: Sequence[dict], uri: str) -> Counter[str]:
    """How many runs of a table were "exported" to the store at `uri`, "present", and skipped, by their state.

    Each finished run is there once: one whose export was cut off is deleted and exported again. Raises ValueError
    without the extra `mlflow`, or if the store cannot be opened, and WriteFailed if a run cannot be written.
    """
    client, known = _client(uri), {}
    return Counter(_outcome(client, row, known) for row in rows)


def _client(uri: str) -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise ValueError("mlflow needs the extra 'mlflow': pip install 'classicnets[mlflow]'") from None
    try:
        if not uri:
            raise ValueError("there is no default")
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise ValueError(
            "mlflow must be a folder, a server's http(s)://HOST:PORT or, with the package mlflow, a database, "
            f"got {uri!r}: {_reason(error)}"
        ) from None
    return client


def _outcome(client, row: dict, known: dict) -> str:
    """`known` holds what `_experiment` found of each."""
    from mlflow.exceptions import MlflowException

    name, state = row["experiment"], row["state"]
    if state not in STATUS:
        return state
    try:
        record = _record(row)
    except (LookupError, TypeError, ValueError):
        return "damaged"
    try:
        if name not in known:
            known[name] = _experiment(client, name)
        experiment, there = known[name]
        for run in there[row["run"]]:
            if run.status == STATUS[state]:
                return "present"
            client.delete_run(run.run_id)
        _write(client, experiment, STATUS[state], record)
    except (MlflowException, OSError) as error:
        raise WriteFailed(f"run {row['run']} could not be exported to MLflow: {_reason(error)}") from error
    return "exported"


def _experiment(client, name: str) -> tuple[str, dict[str, list]]:
    """(MLflow's id of the experiment, {id of a run: those that MLflow has of it}); it is made if need be."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name), defaultdict(list)
    there, token = defaultdict(list), None
    while True:
        page = client.search_runs([found.experiment_id], max_results=1000, page_token=token)
        for run in page:
            there[run.data.tags.get("run")].append(run.info)
        token = page.token
        if not token:
            return found.experiment_id, there


def _record(row: dict) -> dict:
    """What is written of a run; its times are those of the training. Raises an error if its files are damaged."""
    from mlflow.entities import Metric, Param

    run = Run(Path(row["directory"]))
    status, environment, log = run.status, run.environment[-1], run.metrics
    begun = moment = 1000 * run.started
    metrics, last = [], {}
    for last in log:
        moment += 1000 * (last.get("seconds") or 0.0)
        metrics += [Metric(name, value, int(moment), last["step"]) for name, value in numbers(last).items()]
    results = {name: value for name, value in numbers(status).items() if name not in last}
    metrics += [Metric(name, value, int(moment), status["step"]) for name, value in results.items()]
    told = {**environment, **status, "run": run.id, "directory": row["directory"]}
    names = ("run", "directory", "state", "commit", "sources_sha256", "parameters_sha256")
    return {
        "begun": int(begun),
        "ended": int(moment),
        "tags": {name: told[name] for name in names if told.get(name)},
        "params": [Param(name, str(plain(value))) for name, value in flat(run.facts).items()],
        "metrics": metrics,
    }


def _write(client, experiment: str, status: str, record: dict) -> None:
    name = record["tags"]["run"]
    run = client.create_run(experiment, record["begun"], record["tags"], name).info.run_id
    client.log_batch(run, record["metrics"], record["params"])  # in as many requests as there must be
    client.set_terminated(run, status, record["ended"])


def _reason(error: Exception) -> str:
    """The first sentence of an error."""
    return str(error).strip().splitlines()[0].split(". ")[0][:200] if str(error) else type(error).__name__
