"""Readers of other projects' weights."""
