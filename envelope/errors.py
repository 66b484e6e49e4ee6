"""What can go wrong with sealed data; the messages hold no key, plaintext or name.

Mistakes of the calling program (a key of the wrong length, a buffer too small) are
`ValueError`, not one of these.
"""


class EnvelopeError(Exception):
    """Sealed data, or a record that describes it, is not acceptable."""


class CannotOpen(EnvelopeError):
    """The data does not open: damaged, truncated, or sealed for another place or key.

    There is one message for every cause, so that an answer tells an attacker nothing.
    """

    def __init__(self) -> None:
        super().__init__("sealed data is damaged, truncated or belongs elsewhere")


class Malformed(EnvelopeError):
    """A record is not in its one canonical form."""


class TooLarge(EnvelopeError):
    """A record or one of its fields is larger than the format allows."""
