"""A run's log as TensorBoard events."""

import shutil
import struct
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from classicnets.exports.values import numbers, plain
from classicnets.runs import Record, Run
from classicnets.system.writing import writing


def require() -> None:
    """Raise ValueError if tensorboardX is missing."""
    if find_spec("tensorboardX") is None:
        raise ValueError("TensorBoard events need the extra 'tensorboard': pip install 'classicnets[tensorboard]'")


def writer(wanted: bool) -> "Callable[[Run], Events] | None":
    """Return what `training.train` takes as its writer, None where none is wanted; raise ValueError as `require`."""
    if not wanted:
        return None
    require()
    return lambda run: Events(run.record)


def write(record: Record) -> None:
    """Write the events of a run that has ended."""
    Events(record).close(record.status)


class Events:
    """What TensorBoard shows of a run, in its folder `tensorboard`: scalars by the log's names, and hyperparameters.

    It begins anew from the run's record, which a resumed run has cut back. No experiment is declared: TensorBoard then
    takes the hyperparameters and metrics of all runs together, where it would take those of one run for all.
    The events' times are those of the training, begun when the run was first started. Raise ValueError without the
    extra `tensorboard`, and here and later WriteFailed if something cannot be written.
    """

    def __init__(self, record: Record):
        require()
        folder = record.path / "tensorboard"
        # A TensorBoard that has read an earlier file goes on with this one if its name comes later.
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.classicnets"
        self.time, self.last = record.started, dict[str, Any]()
        fields = {name: _value(plain(value)) for name, value in record.fields.items()}
        begin = _hparams("session_start_info", hparams=fields, start_time_secs=self.time)
        with writing(folder, 0):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        self._write({"file_version": "brain.Event:2"}, begin, *map(self._scalars, record.log))

    def log(self, record: dict) -> None:
        """Add a line of the log, which a running TensorBoard shows."""
        self._write(self._scalars(record))

    def close(self, results: dict) -> None:
        """End a run that is complete, or diverged if `results` say so; those that the log lacks are added."""
        new = {name: value for name, value in results.items() if name not in self.last}
        status = "STATUS_FAILURE" if results.get("state") == "diverged" else "STATUS_SUCCESS"
        end = _hparams("session_end_info", status=status, end_time_secs=self.time)
        self._write(self._scalars({**new, "step": self.last.get("step", 0)}), end)

    def _scalars(self, line: dict) -> dict:
        self.last = line
        self.time += line.get("seconds") or 0.0
        values = [{"tag": name, "simple_value": value} for name, value in numbers(line).items()]
        return {"step": line["step"], "wall_time": self.time, "summary": {"value": values}}

    def _write(self, *events: dict) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        frames = [_frame(Event(**{"wall_time": self.time, **event}).SerializeToString()) for event in events]
        with writing(self.path, sum(map(len, frames))), self.path.open("ab") as file:
            file.write(b"".join(frames))


def _frame(content: bytes) -> bytes:
    """Return a TFRecord: length and content, each with its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    size = struct.pack("<Q", len(content))
    return size + struct.pack("<I", masked_crc32c(size)) + content + struct.pack("<I", masked_crc32c(content))


def _hparams(kind: str, **info: object) -> dict:
    """Return the event of TensorBoard's plugin for hyperparameters that begins or ends a session."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

    content = HParamsPluginData(version=0, **{kind: info}).SerializeToString()
    metadata = {"plugin_data": {"plugin_name": "hparams", "content": content}}
    return {"summary": {"value": [{"tag": f"_hparams_/{kind}", "metadata": metadata}]}}


def _value(value: bool | int | float | str) -> dict:
    """Return a google.protobuf.Value."""
    kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
    return {kind: value}
