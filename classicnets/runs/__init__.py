"""Runs as facts: named by what they compute, owned by one process, resumed to the same bits."""

from classicnets.runs.store import Run, RunLocked, find_run, identity, list_runs

__all__ = ["Run", "RunLocked", "find_run", "identity", "list_runs"]
