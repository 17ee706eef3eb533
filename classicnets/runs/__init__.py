"""Runs as facts: named by what they compute, owned by one process, resumed to the same bits."""

from classicnets.runs.index import find_run, list_runs
from classicnets.runs.record import ENDED, TIMING, Record
from classicnets.runs.run import Run, RunLocked

__all__ = ["ENDED", "TIMING", "Record", "Run", "RunLocked", "find_run", "list_runs"]
