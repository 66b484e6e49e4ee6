"""From a store's settings to the store, for the composition root."""

from dataclasses import dataclass
from pathlib import Path

from gateway.ports import Store
from gateway.stores.folder import FolderStore
from gateway.stores.s3 import S3Store
from gateway.stores.s3_settings import S3Settings


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """A folder that exists, and how many threads may work in it."""

    name: str
    path: Path
    threads: int = 8
    patience: float = 30.0  # seconds for what a disk should answer soon


def open_store(settings: FolderSettings | S3Settings) -> Store:
    """Return the store, not yet connected: `check` tells whether it can be reached."""
    if isinstance(settings, FolderSettings):
        return FolderStore(
            settings.path,
            name=settings.name,
            threads=settings.threads,
            patience=settings.patience,
        )
    return S3Store(settings)
