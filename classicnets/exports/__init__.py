"""Runs in other tools' forms."""
