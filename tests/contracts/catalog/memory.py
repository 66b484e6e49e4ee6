"""The catalog's rules over dictionaries: slow, forgetful, and short enough to be seen correct."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gateway.errors import NotFound, PreconditionFailed, UploadLost
from gateway.model import (
    Attachment,
    Found,
    Operation,
    Precondition,
    ReplicaState,
    Upload,
    Version,
)


@dataclass
class Line:
    """An attachment with its versions, oldest first."""

    attachment: Attachment
    found: list[tuple[Version, Mapping[str, ReplicaState]]] = field(default_factory=list)


class MemoryCatalog:
    """What `Catalog` promises about uploads, attachments and operations."""

    def __init__(self, tenants: Sequence[str], clock: Callable[[], datetime]) -> None:
        self._tenants = tenants
        self._clock = clock
        self._lines: dict[str, Line] = {}
        self._open: dict[str, Upload] = {}
        self._fenced: dict[str, Upload] = {}
        self._operations: dict[tuple[str, bytes], tuple[Operation, datetime]] = {}

    def begin(self, upload: Upload, reference: str) -> Attachment:
        if upload.tenant not in self._tenants:
            raise NotFound
        line = self._live(upload.tenant, reference)
        if line is None:
            new = Attachment(upload.attachment, upload.tenant, reference, upload.started)
            line = self._lines[new.id] = Line(new)
        self._open[upload.id] = replace(
            upload, attachment=line.attachment.id, touched=self._clock()
        )
        return line.attachment

    def touch(self, uploads: Sequence[str]) -> None:
        at = self._clock()
        for upload in uploads:
            if upload in self._open:
                self._open[upload] = replace(self._open[upload], touched=at)
        for key, (operation, _) in self._operations.items():
            if operation.upload in uploads and operation.version is None:
                self._operations[key] = operation, at

    def commit(
        self,
        version: Version,
        replicas: Mapping[str, ReplicaState],
        precondition: Precondition,
        operation: tuple[str, bytes] | None,
    ) -> None:
        if operation is not None:
            held, touched = self._operations.get(operation, (None, None))
            if held is None or held.upload != version.id or held.version is not None:
                raise UploadLost
        if version.id not in self._open:
            raise UploadLost
        line = self._lines[version.attachment]
        if line.attachment.deleted is not None:
            raise NotFound
        _require(line, precondition)
        line.found.append((version, replicas))
        del self._open[version.id]
        if operation is not None and held is not None and touched is not None:
            self._operations[operation] = replace(held, version=version.id), touched

    def committed(self, upload: str) -> bool:
        return any(v.id == upload for line in self._lines.values() for v, _ in line.found)

    def fence(self, upload: str) -> bool:
        if upload in self._open:
            self._fenced[upload] = self._open.pop(upload)
        return not self.committed(upload)

    def stale(self, grace: timedelta, limit: int, after: Upload | None = None) -> Sequence[Upload]:
        before = self._clock() - grace
        silent = [u for u in self._open.values() if u.touched < before]
        found = sorted([*silent, *self._fenced.values()], key=lambda u: (u.touched, u.id))
        if after is not None:
            found = [u for u in found if (u.touched, u.id) > (after.touched, after.id)]
        found = found[:limit]
        for upload in found:
            self.fence(upload.id)
        return found

    def forget(self, upload: str) -> None:
        for key, (operation, _) in list(self._operations.items()):
            if operation.upload == upload and operation.version is None:
                del self._operations[key]
        gone = self._open.pop(upload, None) or self._fenced.pop(upload, None)
        left = [*self._open.values(), *self._fenced.values()]
        if gone is None or any(u.attachment == gone.attachment for u in left):
            return
        if not self._lines[gone.attachment].found:
            del self._lines[gone.attachment]

    def known(self) -> frozenset[str]:
        running = [*self._open.values(), *self._fenced.values()]
        versions = [v for line in self._lines.values() for v, _ in line.found]
        return frozenset([u.blob for u in running] + [v.blob for v in versions])

    def find(self, tenant: str, reference: str, version: str | None = None) -> Found:
        line = self._live(tenant, reference)
        for found in _newest_first(line) if line else []:
            if found.current if version is None else found.version.id == version:
                return found
        raise NotFound

    def by_version(self, tenant: str, version: str) -> Found:
        for line in self._lines.values():
            for found in _newest_first(line):
                if found.version.id == version and line.attachment.tenant == tenant:
                    return found
        raise NotFound

    def versions(
        self, tenant: str, reference: str, after: str | None = None, limit: int = 100
    ) -> Sequence[Found]:
        line = self._live(tenant, reference)
        found = _newest_first(line) if line else []
        ids = [f.version.id for f in found]
        if not found or (after is not None and after not in ids):
            raise NotFound
        start = 0 if after is None else ids.index(after) + 1
        return [
            replace(f, version=replace(f.version, envelope=b""))
            for f in found[start : start + limit]
        ]

    def list(self, tenant: str, prefix: str, after: str | None, limit: int) -> Sequence[Found]:
        found = [
            _newest_first(line)[0]
            for line in self._lines.values()
            if line.found
            and line.attachment.tenant == tenant
            and line.attachment.deleted is None
            and line.attachment.reference.startswith(prefix)
            and (after is None or line.attachment.reference > after)
        ]
        return sorted(found, key=lambda f: f.attachment.reference)[:limit]

    def trash(self, tenant: str, reference: str, precondition: Precondition) -> Attachment:
        line = self._live(tenant, reference)
        if line is None or not line.found:
            raise NotFound
        _require(line, precondition)
        line.attachment = replace(line.attachment, deleted=self._clock())
        return line.attachment

    def claim(self, operation: Operation, lease: timedelta) -> Operation:
        at = self._clock()
        key = operation.tenant, operation.key_hash
        if key in self._operations:
            held, touched = self._operations[key]
            if held.version is not None:
                return held
            if held.upload == operation.upload:
                return operation
            if touched + lease > at:
                return held
            self.fence(held.upload)
        self._operations[key] = operation, at
        return operation

    def release(self, tenant: str, key_hash: bytes, upload: str) -> None:
        held = self._operations.get((tenant, key_hash))
        if held and held[0].upload == upload and held[0].version is None:
            del self._operations[tenant, key_hash]

    def _live(self, tenant: str, reference: str) -> Line | None:
        for line in self._lines.values():
            found = line.attachment.tenant, line.attachment.reference
            if found == (tenant, reference) and line.attachment.deleted is None:
                return line
        return None


def _newest_first(line: Line) -> list[Found]:
    last = len(line.found) - 1
    return [
        Found(line.attachment, version, replicas, current=number == last)
        for number, (version, replicas) in reversed(list(enumerate(line.found)))
    ]


def _require(line: Line, precondition: Precondition) -> None:
    current = line.found[-1][0].id if line.found else None
    if precondition.must_exist not in (None, current is not None):
        raise PreconditionFailed
    if precondition.versions is not None and current not in precondition.versions:
        raise PreconditionFailed
