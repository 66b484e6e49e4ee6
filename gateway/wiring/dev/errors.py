"""How an embedded stack or its tour can fail; each text is what the person at the terminal reads."""


class DevFailed(Exception):
    """Base of what ends `sealgate dev` with a message."""


class PlaceRefused(DevFailed):
    """The folder cannot be used; the text says why and what to do."""


class ChildEnded(DevFailed):
    """A service ended by itself; the text has its last log lines."""


class NotReady(DevFailed):
    """A service runs and does not become ready; the text has what it says."""


class Unexpected(DevFailed):
    """The gateway gave an answer that this request should not get."""


class TourFailed(DevFailed):
    """A step did not show what it should; the text says which."""
