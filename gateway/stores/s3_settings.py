"""What an S3 store needs to know, as plain values."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class S3Settings:
    """One bucket, who uses it, and how patiently. Times are seconds.

    Without an endpoint it is AWS's of that region. Without an access key the standard chain of AWS
    is searched (environment, profile, web identity, container, instance). `addressing` "auto" is
    "path" for an endpoint of one's own and "virtual" for AWS. `checksum` "md5" is for stores that do
    not know CRC64NVME; it costs a second pass over every byte.
    """

    name: str
    bucket: str
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = field(repr=False, default=None)
    secret_key: str | None = field(repr=False, default=None)
    session_token: str | None = field(repr=False, default=None)
    addressing: Literal["auto", "path", "virtual"] = "auto"
    checksum: Literal["crc64nvme", "md5"] = "crc64nvme"
    ca_file: str | None = None
    connections: int = 64
    connect_timeout: float = 5.0
    stall_timeout: float = 30.0  # without a byte in either direction; for all of a small answer
    complete_timeout: float = 300.0  # some stores copy all parts before they answer

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ValueError(f"store {self.name}: the bucket's name is not one that S3 allows")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError(f"store {self.name}: give the access key and its secret, or neither")
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"store {self.name}: the endpoint must be an http or https URL")
            if parts.query or parts.fragment or "@" in parts.netloc:
                raise ValueError(f"store {self.name}: the endpoint must be a host and a path only")

    @property
    def virtual(self) -> bool:
        """Tell whether the bucket is part of the host's name instead of the path."""
        if self.addressing == "auto":
            # A certificate for *.host does not cover a bucket whose name has dots.
            return self.endpoint is None and "." not in self.bucket
        return self.addressing == "virtual"

    @property
    def private(self) -> bool:
        """Tell whether nobody on the way can change a body: over TLS, or on this machine."""
        parts = urlsplit(self.endpoint or "https://aws")
        return parts.scheme == "https" or parts.hostname in _LOOPBACK
