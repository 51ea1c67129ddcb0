"""How often an interval held the true value in real cases, in words; standard library only."""

LEAST_HELD = 0.8
"""Share of real cases that an interval must have held for its level to be named."""


def names_level(held: int | None, held_of: int | None) -> bool:
    """Return whether the level of an interval may be named: nobody has measured it, or it held often enough."""
    return not held_of or (held or 0) >= LEAST_HELD * held_of


def held_text(held: int | None, held_of: int | None, cases: int | None) -> str:
    """Say how far an interval can be relied on: how often it held in real cases, else how many it was fitted on."""
    fitted = f"from {cases} calibration cases" if cases else ""
    behind = f"held in {held} of {held_of} real cases" if held_of else fitted
    return ", ".join(filter(None, ("90 %" if names_level(held, held_of) else "", behind)))
