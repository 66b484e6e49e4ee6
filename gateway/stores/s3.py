"""A store in a bucket of AWS S3 or anything that speaks its language.

Objects are created with `If-None-Match: *`, and overwritten by `replace` alone. The store verifies what
it gets: every body and every whole carries its CRC-64/NVME (or MD5). Calls with small bodies go through
aioboto3; what streams goes through `s3_wire`. Tries nothing twice: that is `retrying`'s.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.errors import ObjectExists, ObjectMissing, StoreDamaged, StoreDenied, StoreUnavailable
from gateway.ports import PartUpload, Piece, Stat, Unfinished
from gateway.stores.keys import checked_key, checked_prefix, checked_range, possible
from gateway.stores.s3_client import Client, make_client
from gateway.stores.s3_errors import s3_errors
from gateway.stores.s3_settings import S3Settings
from gateway.stores.s3_times import read_time
from gateway.stores.s3_upload import S3Upload
from gateway.stores.s3_wire import Wire
from gateway.stores.workers import Workers


@dataclass(frozen=True, slots=True)
class _Link:
    """The two ways to the bucket."""

    client: Client
    wire: Wire


class S3Store:
    """Objects in one bucket. Connects at the first call."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._bucket = settings.bucket
        self._workers = Workers(2, f"store-{settings.name}", contextlib.nullcontext)
        self._linking = asyncio.Lock()
        self._link: _Link | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"S3Store({self._settings.name!r})"

    async def put(self, key: str, piece: Piece) -> None:
        """See the port."""
        checked_key(key)
        with s3_errors():
            link = await self._linked()
            await link.wire.put(key, piece, {}, only={"if-none-match": "*"})

    async def replace(self, key: str, piece: Piece) -> None:
        """See the port. Only over the object that it found, where the store knows `If-Match` on a PUT."""
        checked_key(key)
        found = await self._head(key)
        try:
            with s3_errors():
                link = await self._linked()
                await link.wire.put(key, piece, {}, only={"if-match": found["ETag"]})
        except ObjectExists:
            raise StoreUnavailable("the object changed while it was replaced") from None

    async def begin(self, key: str) -> PartUpload:
        """See the port."""
        checked_key(key)
        crc = self._settings.checksum == "crc64nvme"
        options = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if crc else {}
        with s3_errors():
            link = await self._linked()
            answer = await self._call("create_multipart_upload", Key=key, **options)
            upload = answer["UploadId"]
        return S3Upload(link.client, link.wire, self._settings, key, upload)

    async def read(
        self, key: str, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes | memoryview]:
        """See the port."""
        checked_key(key)
        checked_range(start, stop)
        if start == stop:
            return
        with s3_errors():
            link = await self._linked()
        try:
            # Closed here, in this task, so that the connection goes when our caller closes us.
            async with contextlib.aclosing(link.wire.get(key, start, stop)) as pieces:
                while True:
                    with s3_errors():
                        block = await anext(pieces, None)
                    if block is None:
                        return
                    yield block
        except StoreDamaged:
            # S3 has no empty range: from the very end to the end is refused, but rightly empty.
            if stop is not None or not start or (await self.stat(key)).size != start:
                raise

    async def stat(self, key: str) -> Stat:
        """See the port."""
        checked_key(key)
        answer = await self._head(key)
        with s3_errors():
            return Stat(key, answer["ContentLength"], read_time(answer["LastModified"]))

    async def delete(self, key: str) -> None:
        """See the port."""
        checked_key(key)
        with contextlib.suppress(ObjectMissing):
            await self._call("delete_object", Key=key)

    async def list(self, prefix: str) -> AsyncIterator[Stat]:
        """See the port."""
        marks = {"ContinuationToken": "NextContinuationToken"}
        async for page in self._pages("list_objects_v2", {"Prefix": checked_prefix(prefix)}, marks):
            with s3_errors():
                found = [
                    Stat(each["Key"], each["Size"], read_time(each["LastModified"]))
                    for each in page.get("Contents", ())
                ]
            for each in found:
                yield each

    async def unfinished(self, prefix: str) -> AsyncIterator[Unfinished]:
        """See the port. What no key of ours can name is nobody's to discard here, and is left out."""
        marks = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        prefixed = {"Prefix": checked_prefix(prefix)}
        async for page in self._pages("list_multipart_uploads", prefixed, marks):
            with s3_errors():
                found = [
                    Unfinished(each["Key"], each["UploadId"], read_time(each["Initiated"]))
                    for each in page.get("Uploads", ())
                    if possible(each["Key"])
                ]
            for each in found:
                yield each

    async def touched(self, upload: Unfinished) -> datetime:
        """See the port."""
        checked_key(upload.key)
        last = upload.started
        names = {"Key": upload.key, "UploadId": upload.id}
        marks = {"PartNumberMarker": "NextPartNumberMarker"}
        async for page in self._pages("list_parts", names, marks):
            with s3_errors():
                times = [read_time(each["LastModified"]) for each in page.get("Parts", ())]
            last = max([last, *times])
        return last

    async def discard(self, upload: Unfinished) -> None:
        """See the port."""
        checked_key(upload.key)
        with contextlib.suppress(ObjectMissing):
            await self._call("abort_multipart_upload", Key=upload.key, UploadId=upload.id)

    async def check(self) -> None:
        """See the port."""
        try:
            await self._call("head_bucket")
        except ObjectMissing:
            raise StoreDenied("the bucket does not exist: create it or correct its name") from None

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        async with self._linking:
            link, self._link = self._link, None
            if link is not None:
                await link.wire.close()
                await link.client.close()
            self._workers.close()

    async def _head(self, key: str) -> dict[str, Any]:
        try:
            return await self._call("head_object", Key=key)
        except ObjectMissing:
            await self.check()  # a HEAD does not tell a missing object from a missing bucket
            raise

    async def _pages(
        self, operation: str, options: Mapping[str, str], marks: Mapping[str, str]
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page of a listing: each says whether it is the last, and else where the next begins."""
        after: dict[str, Any] = {}
        while True:
            with s3_errors():
                page = await self._call(operation, **options, **after)
                more = bool(
                    page["IsTruncated"]
                )  # what does not say so is no listing, nor an empty one
                before, after = after, {n: page[told] for n, told in marks.items() if more}
            yield page
            if not more:
                return
            if after == before:
                raise StoreUnavailable("a listing of the store goes round in a circle")

    async def _call(self, operation: str, **options: Any) -> dict[str, Any]:
        with s3_errors():
            link = await self._linked()
            call = getattr(link.client.api, operation)
            async with asyncio.timeout(self._settings.stall_timeout):
                answer: dict[str, Any] = await call(Bucket=self._bucket, **options)
            return answer

    async def _linked(self) -> _Link:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._link is None:
            async with self._linking:
                if self._link is None:
                    client = await self._workers.run(make_client, self._settings)
                    context: ssl.SSLContext | None = None
                    if client.endpoint.startswith(
                        "https:"
                    ):  # reading what is trusted takes a while
                        context = await self._workers.run(_trust, self._settings.ca_file)
                    wire = Wire(self._settings, client, context, self._workers)
                    self._link = _Link(client, wire)
        return self._link


def _trust(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
