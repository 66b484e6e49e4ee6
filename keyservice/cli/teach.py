"""What the help of every command says: what it does, lines to copy, and how it ends."""

CODES = "Exit codes: 0 done, 1 it failed, 2 wrong usage or settings."


def teach(*paragraphs: str, lines: tuple[str, ...], codes: str = CODES) -> str:
    """Return a command's help. The first paragraph stands alone in the list of commands."""
    examples = "\n".join(["\b", "Examples:", *(f"  $ {line}" for line in lines)])
    return "\n\n".join([*paragraphs, f"\n{examples}", codes])
