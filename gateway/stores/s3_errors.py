"""What S3, botocore and aiohttp answer when they fail, and the StoreError that it means.

The one place where another library's exceptions end. Texts name the store's error code at most:
never a header, a URL or a credential.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from gateway.errors import (
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

_CODES: dict[str, tuple[type[StoreError], str]] = {
    "NoSuchKey": (ObjectMissing, "no such object"),
    "NoSuchUpload": (ObjectMissing, "the upload is no longer there"),
    "NoSuchBucket": (StoreDenied, "the bucket does not exist: create it or correct its name"),
    "PreconditionFailed": (ObjectExists, "the key is taken"),
    "BadRequest": (StoreUnavailable, "the store could not read the request"),
    "RequestTimeout": (StoreUnavailable, "the store waited too long for the request"),
    "RequestTimeTooSkewed": (StoreDenied, "this machine's clock differs from the store's"),
    "EntityTooLarge": (StoreDenied, "the store does not take objects as large as this"),
    "EntityTooSmall": (StoreDenied, "a part that is not the last has less than 5 MiB"),
    "BadDigest": (StoreDamaged, "the store got other bytes than were sent"),
    "IncompleteBody": (StoreDamaged, "the store got fewer bytes than were sent"),
    "InvalidPart": (StoreDamaged, "the store does not have a part as it was sent"),
    "XAmzContentChecksumMismatch": (StoreDamaged, "the store got other bytes than were sent"),
    "XAmzContentSHA256Mismatch": (StoreDamaged, "the store got other bytes than were sent"),
    "InvalidRange": (StoreDamaged, "an object ends before the range that was asked of it"),
    "QuotaExceeded": (StoreFull, "the store's quota is used up"),
    "StorageFull": (StoreFull, "the store is full"),
    "XMinioStorageFull": (StoreFull, "the store is full"),
}
_STATUSES: dict[int, tuple[type[StoreError], str]] = {
    404: (ObjectMissing, "no such object"),
    408: (StoreUnavailable, "the store waited too long for the request"),
    409: (StoreUnavailable, "another request to the same key was in the way"),
    412: (ObjectExists, "the key is taken"),
    416: (StoreDamaged, "an object ends before the range that was asked of it"),
    429: (StoreUnavailable, "the store asks to slow down"),
    507: (StoreFull, "the store is full"),
}
LONGEST = 86400.0  # seconds that a store may ask to be left alone: so many digits are infinite
_SERVER_ERROR = 500
_NOT_IMPLEMENTED = 501
_REDIRECT_ONCE = 307  # a new bucket of AWS, until its name has spread

_WITHOUT_RIGHT = (
    NoCredentialsError,
    PartialCredentialsError,
    NoAuthTokenError,
    ProfileNotFound,
)
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")
_PLAIN = re.compile(r"[A-Za-z0-9.]{1,64}")


def refusal(status: int, code: str, retry_after: str | None = None) -> StoreError:
    """Return the StoreError for a status and an error code of S3 (may be empty)."""
    if found := _CODES.get(code) or _STATUSES.get(status):
        kind, text = found
        return kind(text, retry_after=_seconds(retry_after))
    shown = f"{status} {code}" if _PLAIN.fullmatch(code) and code != str(status) else str(status)
    if (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED) or status == _REDIRECT_ONCE:
        return StoreUnavailable(f"the store answered {shown}", retry_after=_seconds(retry_after))
    return StoreDenied(f"the store refused the request: {shown}")


def code_of(body: bytes) -> str:
    """Return the error code in the XML that S3 answers with, or nothing."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn whatever botocore, aiohttp and the socket raise into StoreErrors."""
    try:
        yield
    except ClientError as error:
        raise _answered(error) from None  # botocore's text may quote what the request held
    except _WITHOUT_RIGHT:
        raise StoreDenied("no usable credentials for the store were found") from None
    except TimeoutError:
        raise StoreUnavailable("the store did not answer in time") from None
    except (OSError, aiohttp.ClientError, BotoCoreError, ResponseParserError) as error:
        kind = type(error).__name__
        raise StoreUnavailable(f"the connection to the store failed: {kind}") from None
    except (LookupError, ValueError):
        raise StoreUnavailable("the store's answer cannot be understood") from None


def _answered(error: ClientError) -> StoreError:
    response: dict[str, Any] = error.response
    metadata = response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    code = str(response.get("Error", {}).get("Code", ""))
    return refusal(int(metadata.get("HTTPStatusCode", 0)), code, headers.get("retry-after"))


def _seconds(text: str | None) -> float | None:
    # The other form, a date, depends on two clocks: without it the caller's own pace is used.
    if not text or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), LONGEST)
