"""How long those rest who write beside requests, whichever database it is."""

LONGEST_REST = 0.25  # seconds


def rest(took: float, share: float) -> float:
    """Return the seconds to rest after a transaction that took so many, to write `share` of the time."""
    return min(took * (1 / share - 1), LONGEST_REST)
