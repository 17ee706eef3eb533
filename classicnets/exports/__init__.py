"""Runs in other tools' forms, from their records."""
