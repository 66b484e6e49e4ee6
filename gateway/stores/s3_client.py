"""The S3 client for calls with small bodies, and the credentials that it found.

botocore reads its models from disk when a client is made, and may look for credentials in files and
on the network; so that happens in a thread, with an event loop of its own, once.
"""

import asyncio
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from gateway.errors import StoreDenied
from gateway.stores.s3_models import models
from gateway.stores.s3_session import Session
from gateway.stores.s3_settings import S3Settings
from gateway.stores.s3_sign import Credentials

_MODELS = models()  # keeps what it read: one copy for all stores


class Client:
    """aioboto3's client, which needs no closing before its first call, and its credentials."""

    def __init__(self, api: Any, credentials: Any) -> None:
        self.api = api
        self._credentials = credentials

    @property
    def endpoint(self) -> str:
        """The URL that the client speaks to."""
        return str(self.api.meta.endpoint_url)

    async def credentials(self) -> Credentials:
        """Return what to sign with now. The standard chain renews them before they expire."""
        found = await self._credentials.get_frozen_credentials()
        return Credentials(found.access_key, found.secret_key, found.token)

    async def close(self) -> None:
        """Give back connections."""
        await self.api.close()


def make_client(settings: S3Settings) -> Client:
    """Make a client. Blocks. Raises StoreDenied when no credentials are found."""
    return asyncio.run(_made(settings))


async def _made(settings: S3Settings) -> Client:
    core = AioSession()
    core.register_component("data_loader", _MODELS)
    session = aioboto3.Session(
        botocore_session=core,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
        region_name=settings.region,
    )
    credentials = await session.get_credentials()
    if credentials is None:
        raise StoreDenied("no credentials for the store were found: give it an access key")
    config = AioConfig(
        http_session_cls=Session,
        signature_version="s3v4",
        s3={"addressing_style": "virtual" if settings.virtual else "path"},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.complete_timeout,
        max_pool_connections=settings.connections,
        retries={"total_max_attempts": 1},  # `retrying` tries again, and keeps a budget
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
        proxies={},  # as for the streams: a store is reached directly
    )
    made = session.client(
        "s3", endpoint_url=settings.endpoint, verify=settings.ca_file, config=config
    )
    return Client(await made.__aenter__(), credentials)
