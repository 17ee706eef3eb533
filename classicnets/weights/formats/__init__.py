"""Readers of other libraries' files, without those libraries: {name: array}, and nothing of a file is executed."""
