"""Whatever S3, botocore and aiohttp say or raise becomes a StoreError that leaks nothing."""

import asyncio
import inspect
import ssl
from collections.abc import Iterator

import aiohttp
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from yarl import URL

from gateway.errors import (
    GatewayError,
    ObjectExists,
    ObjectMissing,
    StoreDamaged,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from gateway.stores.s3_errors import code_of, refusal, s3_errors


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", ObjectMissing),
        (404, "404", ObjectMissing),
        (404, "NoSuchUpload", ObjectMissing),
        (404, "NoSuchBucket", StoreDenied),
        (412, "PreconditionFailed", ObjectExists),
        (412, "", ObjectExists),
        (409, "ConditionalRequestConflict", StoreUnavailable),
        (400, "BadDigest", StoreDamaged),
        (400, "IncompleteBody", StoreDamaged),
        (400, "InvalidPart", StoreDamaged),
        (400, "RequestTimeout", StoreUnavailable),
        (400, "ExpiredToken", StoreDenied),
        (400, "EntityTooSmall", StoreDenied),
        (403, "AccessDenied", StoreDenied),
        (403, "SignatureDoesNotMatch", StoreDenied),
        (403, "RequestTimeTooSkewed", StoreDenied),
        (301, "PermanentRedirect", StoreDenied),
        (307, "TemporaryRedirect", StoreUnavailable),
        (416, "InvalidRange", StoreDamaged),
        (429, "", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (501, "NotImplemented", StoreDenied),
        (503, "SlowDown", StoreUnavailable),
        (503, "<html>", StoreUnavailable),
        (507, "XMinioStorageFull", StoreFull),
        (0, "", StoreDenied),
    ],
)
def test_every_answer_has_its_meaning(status: int, code: str, kind: type[StoreError]) -> None:
    error = refusal(status, code)
    assert type(error) is kind
    assert "<" not in str(error)
    response = {
        "Error": {"Code": code, "Message": "quotes AKIA and a secret"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "7"}},
    }
    with pytest.raises(kind) as raised, s3_errors():
        raise ClientError(response, "PutObject")
    assert "AKIA" not in str(raised.value)
    if kind is StoreUnavailable:
        assert raised.value.retry_after == 7


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), (None, None), ("", None), ("Fri, 20 Nov", None), ("-1", None), ("9" * 400, 86400)],
)
def test_a_pause_is_taken_over_when_it_is_a_number(text: str | None, seconds: float | None) -> None:
    assert refusal(503, "SlowDown", text).retry_after == seconds


def test_the_code_is_found_in_the_answer() -> None:
    assert code_of(b"<?xml?><Error>\n<Code>SlowDown</Code><Message>x</Message>") == "SlowDown"
    assert code_of(b"<Code>not a code</Code>") == ""
    assert code_of(b"") == ""


def made(kinds: object, base: type[Exception]) -> Iterator[Exception]:
    """Make one of every error in a module; each asks for other fields, none of which matters."""
    for _, kind in inspect.getmembers(kinds, inspect.isclass):
        if issubclass(kind, base):
            error: Exception = kind.__new__(kind)
            Exception.__init__(error, "holds AKIA")
            yield error


OTHERS = [
    ResponseParserError("holds AKIA"),
    TimeoutError("holds AKIA"),
    ConnectionResetError("holds AKIA"),
    BrokenPipeError("holds AKIA"),
    ssl.SSLError("holds AKIA"),
    OSError("holds AKIA"),
    aiohttp.InvalidURL(URL("http://x")),
]


@pytest.mark.parametrize(
    "error",
    [
        *made(botocore.exceptions, botocore.exceptions.BotoCoreError),
        *made(aiohttp, aiohttp.ClientError),
        *OTHERS,
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_other_librarys_error_escapes(error: Exception) -> None:
    with pytest.raises(StoreError) as raised, s3_errors():
        raise error
    assert "AKIA" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_our_own_errors_and_cancellation_pass() -> None:
    for error in (StoreFull("full"), ObjectMissing("gone"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as raised, s3_errors():
            raise error
        assert raised.value is error


def test_every_meaning_is_of_the_gateway() -> None:
    assert issubclass(StoreError, GatewayError)
