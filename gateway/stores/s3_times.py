"""Times as S3 writes them: ISO 8601 in listings, as in a mail in headers (RFC 9110, section 5.6.7).

Guarantees a time in UTC, or a ValueError; one that names no zone is taken to be in UTC.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_time(text: str) -> datetime:
    """Read a time in either way. Raises ValueError."""
    try:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = parsedate_to_datetime(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("no time of ours") from None
