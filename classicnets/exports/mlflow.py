"""Finished runs as those of an MLflow tracking store."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from classicnets.exports.values import numbers, plain
from classicnets.runs import Record
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


def export(records: Sequence[Record], uri: str) -> Counter[str]:
    """Export runs to the store at `uri`; return how many were "exported", "present", and skipped, by their state.

    Each finished run is there once: one whose export was cut off is deleted and exported again. Raise ValueError
    without the extra `mlflow`, or if the store cannot be opened, and WriteFailed if a run cannot be written.
    """
    client, experiments = _client(uri), {}
    return Counter(_outcome(client, record, experiments) for record in records)


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


def _outcome(client: Any, record: Record, experiments: dict[str, tuple]) -> str:
    """Return what became of a run; experiments: what `_experiment` returned of each so far."""
    from mlflow.exceptions import MlflowException

    name, state = record.path.parent.name, record.row["state"]
    if state not in STATUS:
        return state
    try:
        content = _content(record)
    except (LookupError, TypeError, ValueError):
        return "damaged"
    try:
        if name not in experiments:
            experiments[name] = _experiment(client, name)
        experiment, present = experiments[name]
        for run in present[record.id]:
            if run.status == STATUS[state]:
                return "present"
            client.delete_run(run.run_id)
        _write(client, experiment, record.id, STATUS[state], content)
    except (MlflowException, OSError) as error:
        raise WriteFailed(f"run {record.id} could not be exported to MLflow: {_reason(error)}") from error
    return "exported"


def _experiment(client: Any, name: str) -> tuple[str, dict[str, list]]:
    """Return (MLflow's id of the experiment, made if need be, {id of a run: those that MLflow has of it})."""
    experiment, present, token = client.get_experiment_by_name(name), defaultdict(list), None
    if experiment is None:
        return client.create_experiment(name), present
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        for run in page:
            present[run.data.tags.get("run")].append(run.info)
        token = page.token
        if not token:
            return experiment.experiment_id, present


def _content(record: Record) -> dict:
    """Return what is written of a run, its times being those of the training."""
    from mlflow.entities import Metric, Param

    status, moment, last = record.status, 1000 * record.started, {}
    metrics = []
    for last in record.log:
        moment += 1000 * (last.get("seconds") or 0.0)
        metrics += [Metric(name, value, int(moment), last["step"]) for name, value in numbers(last).items()]
    results = {name: value for name, value in numbers(status).items() if name not in last}
    metrics += [Metric(name, value, int(moment), status["step"]) for name, value in results.items()]
    tags = {**record.environment[-1], **status, "run": record.id, "directory": str(record.path)}
    names = ("run", "directory", "state", "commit", "sources_sha256", "parameters_sha256")
    return {
        "begun": int(1000 * record.started),
        "ended": int(moment),
        "tags": {name: tags[name] for name in names if tags.get(name)},
        "params": [Param(name, str(plain(value))) for name, value in record.fields.items()],
        "metrics": metrics,
    }


def _write(client: Any, experiment: str, name: str, status: str, content: dict) -> None:
    run = client.create_run(experiment, content["begun"], content["tags"], name).info.run_id
    client.log_batch(run, content["metrics"], content["params"])  # in as many requests as there must be
    client.set_terminated(run, status, content["ended"])


def _reason(error: Exception) -> str:
    """Return the first sentence of an error."""
    return str(error).strip().splitlines()[0].split(". ")[0][:200] if str(error) else type(error).__name__
