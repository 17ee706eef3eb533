"""Runs as facts: named by what they compute, owned by one process, resumed to the same bits."""

from classicnets.runs.run import ENDED, TIMING, Run, RunLocked, find_run, list_runs

__all__ = ["ENDED", "TIMING", "Run", "RunLocked", "find_run", "list_runs"]
