"""One object on its way into S3, in parts."""

import asyncio
from dataclasses import dataclass
from typing import Any

from awscrt.checksums import combine_crc64nvme

from gateway.errors import ObjectMissing, StoreDamaged, StoreDenied
from gateway.ports import Piece
from gateway.stores.s3_client import Client
from gateway.stores.s3_errors import s3_errors
from gateway.stores.s3_settings import S3Settings
from gateway.stores.s3_wire import Wire, crc_text


@dataclass(frozen=True, slots=True)
class _Part:
    etag: str
    crc64nvme: int
    size: int


class S3Upload:
    """See `PartUpload`. The store checks every part, and the whole when it is completed.

    However a store answers, completing takes `complete_timeout` at most, and what else is asked of it
    `stall_timeout`; a part is bounded by whoever sends it.
    """

    def __init__(
        self, client: Client, wire: Wire, settings: S3Settings, key: str, upload: str
    ) -> None:
        self._client = client
        self._wire = wire
        self._key = key
        self._upload = upload
        self._names = {"Bucket": settings.bucket, "Key": key, "UploadId": upload}
        self._crc64nvme = settings.checksum == "crc64nvme"
        self._patience = settings.stall_timeout
        self._complete_patience = settings.complete_timeout
        self._parts: dict[int, _Part] = {}

    async def part(self, number: int, piece: Piece) -> None:
        """See the port."""
        query = {"partNumber": str(number), "uploadId": self._upload}
        with s3_errors():
            etag = await self._wire.put(self._key, piece, query)
        self._parts[number] = _Part(etag, piece.crc64nvme, len(piece.data))

    async def complete(self) -> None:
        """See the port."""
        numbers = sorted(self._parts)
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise StoreDenied("an upload needs parts numbered from 1 without gaps")
        listed: list[dict[str, Any]] = []
        whole, size = 0, 0
        for number, part in sorted(self._parts.items()):
            entry: dict[str, Any] = {"PartNumber": number, "ETag": part.etag}
            if self._crc64nvme:
                entry["ChecksumCRC64NVME"] = crc_text(part.crc64nvme)
            listed.append(entry)
            whole = combine_crc64nvme(whole, part.crc64nvme, part.size)
            size += part.size
        proof: dict[str, Any] = {}
        if self._crc64nvme:
            proof = {
                "ChecksumCRC64NVME": crc_text(whole),
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": size,
            }
        with s3_errors():
            # The whole answer, be it that a store keeps the connection alive byte by byte.
            async with asyncio.timeout(self._complete_patience):
                answer = await self._client.api.complete_multipart_upload(
                    **self._names, **proof, IfNoneMatch="*", MultipartUpload={"Parts": listed}
                )
            told = answer.get("ChecksumCRC64NVME") if self._crc64nvme else None
            if (
                told is None
            ):  # not by every store: then the size tells at least that no part is missing
                names = {name: self._names[name] for name in ("Bucket", "Key")}
                async with asyncio.timeout(self._patience):
                    found = await self._client.api.head_object(**names)
                same = found["ContentLength"] == size
            else:
                same = told == crc_text(whole)
        if not same:
            raise StoreDamaged("the store holds other bytes than were sent")

    async def abort(self) -> None:
        """See the port."""
        try:
            with s3_errors():
                async with asyncio.timeout(self._patience):
                    await self._client.api.abort_multipart_upload(**self._names)
        except ObjectMissing:
            return
