"""Settings of an S3 store refuse what cannot be meant, and show no secret."""

from pathlib import Path
from typing import Any

import pytest

from gateway.stores.folder import FolderStore
from gateway.stores.open import FolderSettings, open_store
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "ab"},
        {"bucket": "Upper"},
        {"bucket": "a/b"},
        {"bucket": "../x"},
        {"endpoint": "store.example"},
        {"endpoint": "ftp://store.example"},
        {"endpoint": "https://user:pass@store.example"},
        {"endpoint": "https://store.example?x=1"},
        {"access_key": "alone"},
        {"secret_key": "alone"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="store backup"):
        S3Settings(**({"name": "backup", "bucket": "bucket"} | wrong))


@pytest.mark.parametrize(
    ("settings", "virtual", "private"),
    [
        (S3Settings("a", "bucket"), True, True),
        (S3Settings("a", "with.dots"), False, True),
        (S3Settings("a", "bucket", "https://store.example"), False, True),
        (S3Settings("a", "bucket", "http://127.0.0.1:9000"), False, True),
        (S3Settings("a", "bucket", "http://[::1]:9000"), False, True),
        (S3Settings("a", "bucket", "http://store.example"), False, False),
        (S3Settings("a", "bucket", "http://127.0.0.1.example"), False, False),
        (S3Settings("a", "bucket", "https://s.example", addressing="virtual"), True, True),
    ],
)
def test_addressing_and_privacy_follow_from_the_endpoint(
    *, settings: S3Settings, virtual: bool, private: bool
) -> None:
    assert settings.virtual is virtual
    assert settings.private is private


async def test_secrets_are_not_shown() -> None:
    settings = S3Settings(
        "a", "bucket", access_key="AKIA", secret_key="secret-key", session_token="session-token"
    )
    store = open_store(settings)
    for text in (repr(settings), repr(store)):
        assert "AKIA" not in text
        assert "secret-key" not in text
        assert "session-token" not in text
    await store.close()


async def test_settings_open_their_store(tmp_path: Path) -> None:
    folder = open_store(FolderSettings("primary", tmp_path))
    bucket = open_store(S3Settings("backup", "bucket"))
    assert isinstance(folder, FolderStore)
    assert isinstance(bucket, S3Store)
    await folder.close()
    await bucket.close()
