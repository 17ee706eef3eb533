"""Signals, writing and words: what every package stands on."""
