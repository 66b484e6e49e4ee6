"""The composition root's page of adapters: what the settings say, as what an adapter takes."""

from gateway.settings.config import FolderTarget, Settings, secret
from gateway.settings.config import Target as TargetSettings
from gateway.stores.open import FolderSettings
from gateway.stores.s3_settings import S3Settings
from keyservice.client.client import KeyServiceClient
from keyservice.layered import ConfigError


def catalog_url(settings: Settings) -> str:
    """Return the database's URL. Raises ConfigError."""
    url = settings.catalog.url or secret(settings.catalog.url_file)
    if not url:
        raise ConfigError("the catalog's url_file is empty")
    return url


def store_settings(target: TargetSettings, *, stall: float) -> FolderSettings | S3Settings:
    """Return what a store's adapter takes, its secrets read from their files. Raises ConfigError."""
    if isinstance(target, FolderTarget):
        return FolderSettings(name=target.name, path=target.path, patience=stall)
    try:
        return S3Settings(
            name=target.name,
            bucket=target.bucket,
            endpoint=target.endpoint,
            region=target.signing_region,
            access_key=secret(target.access_key_file),
            secret_key=secret(target.secret_key_file),
            addressing=target.addressing,
            checksum=target.checksum,
            ca_file=str(target.ca_file) if target.ca_file is not None else None,
            connections=target.connections,
            stall_timeout=stall,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def key_client(settings: Settings) -> KeyServiceClient:
    """Return the client of the key service, not yet connected. Raises ConfigError."""
    keys = settings.keyservice
    return KeyServiceClient(
        keys.url,
        ca_file=keys.ca_file,
        certificate=keys.certificate,
        private_key=keys.private_key,
        token=secret(keys.token_file),
        timeout=keys.timeout,
        cache_size=keys.cache_size,
        cache_ttl=keys.cache_ttl,
    )
