"""Our signatures are those of botocore, and its secrets stay where they are."""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.s3_sign import UNSIGNED, Credentials, Signer

AT = datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)


def of_botocore(
    credentials: Credentials, method: str, url: str, headers: dict[str, str], at: datetime
) -> str:
    theirs = BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    request = AWSRequest(method, url, headers=headers)
    auth = S3SigV4Auth(theirs, "s3", "eu-central-1")
    with (
        patch("botocore.auth.get_current_datetime", return_value=at),
        patch.object(auth, "payload", return_value=UNSIGNED),
    ):
        auth.add_auth(request)
    return str(request.headers["Authorization"])


@given(
    method=st.sampled_from(["GET", "PUT"]),
    path=st.lists(WORDS, min_size=1, max_size=5).map(lambda words: "/" + "/".join(words)),
    upload=st.text(min_size=1, max_size=20),
    part=st.integers(1, 10_000),
    value=st.text("ab c:=/+", max_size=12),
    secret=st.text(min_size=1, max_size=40),
    token=st.none() | WORDS,
    days=st.integers(0, 1),
)
def test_a_signature_is_that_of_botocore(
    *,
    method: str,
    path: str,
    upload: str,
    part: int,
    value: str,
    secret: str,
    token: str | None,
    days: int,
) -> None:
    credentials = Credentials("AKIA", secret, token)
    headers = {"content-length": "7", "x-amz-checksum-crc64nvme": value}
    query = f"partNumber={part}&uploadId={quote(upload, safe='-_.~')}"
    at = AT + timedelta(days=days)
    ours = SIGNER.sign(
        credentials,
        method=method,
        host="store.example:9000",
        path=path,
        query=query,
        headers=headers,
        payload=UNSIGNED,
        at=at,
    )
    url = f"https://store.example:9000{path}?{query}"
    assert ours["authorization"] == of_botocore(credentials, method, url, headers, at)
    assert ours.get("x-amz-security-token") == token


SIGNER = Signer("eu-central-1")  # shared by all examples: the kept key must follow day and secret


def test_secrets_are_not_shown() -> None:
    credentials = Credentials("AKIA-shown-to-nobody", "secret-key", "session-token")
    signer = Signer("eu-central-1")
    signer.sign(
        credentials,
        method="GET",
        host="h",
        path="/",
        query="",
        headers={},
        payload=UNSIGNED,
        at=AT,
    )
    for text in (repr(credentials), repr(signer), repr(signer._kept)):
        assert "AKIA" not in text
        assert "secret-key" not in text
        assert "session-token" not in text
