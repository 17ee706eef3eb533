"""TensorBoard events, read back by TensorBoard."""

import json
import resource
import sys

import flax.linen as nn
import numpy as np
import pytest
from helpers.commands import answer
from helpers.stored import LOG, store
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from classicnets.exports.tensorboard import Events, require, writer
from classicnets.runs import Run
from classicnets.sweeps import Job, sweep
from classicnets.system.writing import WriteFailed
from classicnets.training import Config, Execution, Recipe, train


def read(run: Run) -> EventAccumulator:
    return EventAccumulator(str(run.path / "tensorboard")).Reload()


def scalars(events: EventAccumulator) -> dict:
    """{tag: [(step, value), ...]}."""
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def logged(records: list[dict]) -> dict:
    """What `scalars` finds of a log, in the 32 bits of an event."""
    tags = [tag for tag in records[0] if tag != "step"]
    return {tag: [(record["step"], np.float32(record[tag])) for record in records] for tag in tags}


def hparams(events: EventAccumulator) -> dict:
    """The values of the one session's fields."""
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    fields = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in fields.items()}


@pytest.fixture
def run(tmp_path):
    return Run(store(tmp_path, [7])[0])


def test_log_and_configuration_read_back(run):
    events = Events(run.record)
    found = read(run)
    assert scalars(found) == logged(LOG)
    fields = hparams(found)
    expected = {"model": "CifarResNet", "depth": 8, "shortcut": "A", "seed": 2, "augment": True, "learning_rate": 0.1}
    assert {name: fields[name] for name in expected} == expected
    assert (fields["clip_norm"], fields["boundaries"], fields["dataset"]) == ("none", "[]", "digits")
    assert type(fields["augment"]) is bool
    line = {"step": 44, "epoch": 4.0, "train_error": 15, "test_error": 16.25}
    events.log(line)
    assert scalars(found.Reload()) == logged([*LOG, line])


def test_results_end_the_session(run):
    results = {"state": "complete", "step": 33, "test_error": 65 / 3, "best_step": 22, "parameters_sha256": "ab"}
    Events(run.record).close(results)
    found = read(run)
    assert scalars(found) == {**logged(LOG), "best_step": [(33, 22)]}
    assert status(found) == "STATUS_SUCCESS"
    Events(run.record).close({"state": "diverged", "step": 33, "tensor": "loss"})
    assert status(read(run)) == "STATUS_FAILURE"


def status(events: EventAccumulator) -> str:
    content = events.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    info = metadata.parse_session_end_info_plugin_data(content)
    return type(info).DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[info.status].name


def test_a_resumed_run_is_cut_back(run):
    Events(run.record)
    run.cut_metrics(22)
    events = Events(run.record)
    line = {**LOG[2], "test_error": 50}
    events.log(line)
    assert scalars(read(run)) == logged([*LOG[:2], line])
    assert len(list((run.path / "tensorboard").iterdir())) == 1


def test_times_are_of_the_training(run):
    (run.path / "metrics.jsonl").write_text(
        "".join(json.dumps({**record, "seconds": 7.5 if i else None}) + "\n" for i, record in enumerate(LOG))
    )
    Events(run.record)
    found = read(run)
    assert [event.wall_time - run.record.started for event in found.Scalars("epoch")] == [0.0, 7.5, 15.0]
    assert [event.step for event in found.Scalars("seconds")] == [22, 33]


def test_a_write_that_fails_says_so_and_is_made_good_by_a_resume(run):
    events = Events(run.record)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (events.path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(WriteFailed, match=r"tensorboard/events\S+ could not be written: \d+ bytes"):
            events.log({**LOG[2], "step": 44})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert scalars(read(run)) == logged(LOG)
    Events(run.record).log({**LOG[2], "step": 44})
    assert scalars(read(run)) == logged([*LOG, {**LOG[2], "step": 44}])


def test_what_is_no_folder_is_not_removed(run):
    (run.path / "tensorboard").write_text("mine")
    with pytest.raises(WriteFailed, match="tensorboard could not be written"):
        Events(run.record)
    assert (run.path / "tensorboard").read_text() == "mine"


def test_without_the_extra(run, monkeypatch):
    require()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match="need the extra 'tensorboard': pip install 'classicnets"):
        Events(run.record)
    assert not (run.path / "tensorboard").exists()


class Small(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        return nn.Dense(10)(images.reshape(len(images), -1))


def test_a_run_that_is_resumed_has_its_log_once(tmp_path):
    def once():
        how = Execution(checkpoint_seconds=0.0, tensorboard=True)
        config = Config(recipe=Recipe(epochs=3))
        return train(Small(), config, runs=tmp_path, experiment="e", name="small", execution=how, writer=writer(True))

    run = once()
    log = scalars(read(run))
    assert {"train_loss", "learning_rate", "best_step"} <= log.keys()
    assert [step for step, _ in log["test_error"]] == [11, 22, 33]
    (run.checkpoints / "33").rename(tmp_path / "gone")
    run.set_status("interrupted", step=22)
    again = scalars(read(once()))
    assert again["train_error_batch_statistics"] == log["train_error_batch_statistics"]
    assert {tag: again[tag] for tag in logged(run.metrics)} == logged(run.metrics)


def test_events_of_runs_that_have_ended(tmp_path, capsys):
    paths = store(tmp_path, range(3))
    Run(paths[0]).set_status("interrupted", step=11)
    status, out, err = answer(capsys, "runs", "--tensorboard", "--json", "--runs", tmp_path)
    assert status == 0
    assert len(json.loads(out)) == 3
    assert err == "classicnets: TensorBoard events of 2 of 3 runs, which have ended\n"
    assert [(path / "tensorboard").exists() for path in paths] == [False, True, True]
    found = scalars(read(Run(paths[2])))
    assert {tag: found[tag] for tag in logged(LOG)} == logged(LOG)


def test_training_without_tensorboardx_names_the_extra_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match="need the extra 'tensorboard'"):
        writer(True)
    with pytest.raises(ValueError, match="tensorboard needs what writes its events"):
        train(Small(), Config(), runs=tmp_path, experiment="e", name="x", execution=Execution(tensorboard=True))
    with pytest.raises(ValueError, match="need the extra 'tensorboard'"):
        sweep([Job(Small(), Config(), "x", execution=Execution(tensorboard=True))], tmp_path)
    assert writer(False) is None
    assert not list(tmp_path.iterdir())
