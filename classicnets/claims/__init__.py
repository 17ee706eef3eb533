"""Claims as programs: a sentence, its runs, a criterion that was committed before them, and a verdict."""

from classicnets.claims.claim import Case, Claim, Preset, Row, by_condition, by_seed, steps_to
from classicnets.claims.command import main
from classicnets.claims.pilot import pilot

__all__ = ["Case", "Claim", "Preset", "Row", "by_condition", "by_seed", "main", "pilot", "steps_to"]
