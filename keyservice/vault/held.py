"""The root of a tenant whose owner holds it: a transit key in a Vault or OpenBao of the owner's own.

Guarantees: what only the owner can have done (the key deleted, its version given up, our rights or our
log-in withdrawn, the Vault sealed) is SuspendedByOwner; what a network, a certificate or a busy server
does is Unavailable; and as soon as the owner gives the key back it is used again, without a restart.
One key may serve several tenants of the owner: the tenant's id is the derivation context, so that what
was wrapped for one opens for no other. Nothing is connected to until it is needed, and then only the
configured address; while it does not answer, one call at a time waits for it. The key is never rotated,
restricted or destroyed from here: that is its owner's.
What the Vault answers is not believed: what it wrapped must come back before anything rests on it, and
the current KEK proves itself by the seal of its tenant's record.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import Callable, Iterator

from keyservice.errors import (
    CannotUnwrap,
    Suspended,
    SuspendedByOwner,
    Unavailable,
    WrongState,
)
from keyservice.ports import RootKind, RootStatus, RootVersions
from keyservice.records import RootRef, demand_tenant
from keyservice.vault.login import Refused
from keyservice.vault.session import Answer, Sealed, VaultSession

KEY_TYPE = "aes256-gcm96"
KEK_SIZE = 32
OK = 200
NOT_FOUND = 404
STATUS_DEADLINE = 3.0
AGAIN = 1.0
GONE = "the key, or the place of it, is gone from their vault"
_WRAPPED = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+")


class HeldRoot:
    """One owner's key: `open_session` is called once, when it is first needed."""

    def __init__(self, open_session: Callable[[], VaultSession], *, mount: str, key: str) -> None:
        self._open_session = open_session
        self._session: VaultSession | None = None
        self._mount = mount
        self._key = key
        self._failing = self._trying = False

    @property
    def kind(self) -> RootKind:
        """Always `vault`."""
        return "vault"

    async def create(self, tenant: str, root: RootRef) -> None:  # noqa: ARG002 - the port's shape
        """See `Root.create`: makes sure that the key is there and derives; WrongState if it is not."""
        answer = await self._call("get", f"keys/{self._key}")
        if answer.status == NOT_FOUND:
            raise WrongState(
                "the owner's vault has no key of that name: it has to be made there first"
            )
        _expect(answer)
        if answer.data.get("type") != KEY_TYPE or answer.data.get("derived") is not True:
            raise WrongState(f"the owner's key has to be a derived one of type {KEY_TYPE}")

    async def wrap(self, tenant: str, root: RootRef, plaintext: bytes) -> str:
        """See `Root.wrap`; raises SuspendedByOwner too, as does every method below."""
        text = base64.b64encode(plaintext).decode("ascii")
        answer = await self._transit("encrypt", tenant, {"plaintext": text})
        if answer.status != OK:
            raise await self._withdrawn() or _senseless()
        wrapped = _ciphertext(answer)
        # A KEK that did not come back would take all that was ever stored under it.
        _demand_same(await self.unwrap(tenant, root, wrapped), plaintext)
        return wrapped

    async def unwrap(self, tenant: str, root: RootRef, wrapped: str) -> bytes:  # noqa: ARG002 - as above
        """See `Root.unwrap`."""
        answer = await self._opened("decrypt", tenant, wrapped)
        text = answer.data.get("plaintext")
        if not isinstance(text, str):
            raise _senseless()
        try:
            kek = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise _senseless() from None
        if len(kek) != KEK_SIZE:
            raise CannotUnwrap
        return kek

    async def rewrap(self, tenant: str, root: RootRef, wrapped: str) -> str:
        """See `Root.rewrap`."""
        kek = await self.unwrap(tenant, root, wrapped)
        new = _ciphertext(await self._opened("rewrap", tenant, wrapped))
        _demand_same(await self.unwrap(tenant, root, new), kek)
        return new

    async def rotate(self, tenant: str, root: RootRef) -> int:  # noqa: ARG002 - as above
        """Raise WrongState: the owner rotates it, and KEKs are rewrapped here."""
        raise WrongState("the key's owner rotates it in their own vault; then rewrap")

    async def versions(self, tenant: str, root: RootRef) -> RootVersions:  # noqa: ARG002 - as above
        """See `Root.versions`."""
        answer = await self._call("get", f"keys/{self._key}")
        if answer.status == NOT_FOUND:
            raise _by_owner(GONE)
        _expect(answer)
        try:
            latest, minimum = (
                int(answer.data[name]) for name in ("latest_version", "min_decryption_version")
            )
            made = int(answer.data["keys"][str(latest)])  # in seconds
        except (KeyError, TypeError, ValueError):
            raise _senseless() from None
        return RootVersions(latest, max(1, minimum), made * 1_000_000)

    async def retire(self, tenant: str, root: RootRef, minimum: int) -> None:  # noqa: ARG002 - as above
        """Raise WrongState: which versions are good is the owner's to say."""
        raise WrongState("the key's owner gives up its versions in their own vault")

    async def destroy(self, tenant: str, root: RootRef) -> None:  # noqa: ARG002 - as above
        """Raise WrongState: the key is not ours."""
        raise WrongState("the key's owner alone can destroy it, in their own vault")

    async def status(self) -> RootStatus:
        """See `Root.status`: asks for the key, which needs all but the right to use it."""
        try:
            answer = await self._call("get", f"keys/{self._key}", deadline=STATUS_DEADLINE)
        except (Suspended, Unavailable) as error:
            return RootStatus(healthy=False, detail=str(error))
        found = answer.status == OK
        detail = "a vault of the key's owner" if found else "the owner's vault has no such key"
        return RootStatus(healthy=found, detail=detail)

    async def close(self) -> None:
        """See `Root.close`."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self, operation: str, tenant: str, wrapped: str) -> Answer:
        version = _version(wrapped)
        answer = await self._transit(operation, tenant, {"ciphertext": wrapped})
        if answer.status != OK:
            raise await self._withdrawn(version) or CannotUnwrap()
        return answer

    async def _transit(self, operation: str, tenant: str, body: dict[str, str]) -> Answer:
        demand_tenant(tenant)
        context = base64.b64encode(tenant.encode()).decode("ascii")
        return await self._call("post", f"{operation}/{self._key}", body | {"context": context})

    async def _withdrawn(self, version: int | None = None) -> SuspendedByOwner | None:
        """Say which act of the owner explains a refusal: no key, or not that version any more."""
        answer = await self._call("get", f"keys/{self._key}")
        if answer.status == NOT_FOUND or answer.data.get("soft_deleted") is True:
            return _by_owner(GONE)
        _expect(answer)
        lowest = answer.data.get("min_decryption_version")
        if version is not None and isinstance(lowest, int) and version < lowest:
            return _by_owner("the version of their key is disabled in their vault")
        return None

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, str] | None = None,
        *,
        deadline: float | None = None,
    ) -> Answer:
        with self._turn(), _owner():
            if self._session is None:
                self._session = self._open_session()
            return await self._session.call(
                method, f"{self._mount}/{path}", body, deadline=deadline
            )

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one call at a time try a Vault that did not answer the last one, and refuse the others."""
        if self._failing and self._trying:
            raise Unavailable("the vault of the key's owner does not answer", retry_after=AGAIN)
        trying = self._failing
        self._trying = self._trying or trying
        try:
            yield
        except Unavailable:
            self._failing = True
            raise
        except SuspendedByOwner:
            self._failing = False  # it answered
            raise
        else:
            self._failing = False
        finally:
            if trying:
                self._trying = False


@contextlib.contextmanager
def _owner() -> Iterator[None]:
    """Tell what the owner did from what happened to us."""
    try:
        yield
    except Refused as error:
        raise _by_owner("their vault refuses us", error.retry_after) from None
    except Sealed as error:
        raise _by_owner("their vault is sealed", error.retry_after) from None
    except Unavailable as error:
        text = f"the vault of the key's owner: {error}"
        raise Unavailable(text, retry_after=error.retry_after) from None


def _by_owner(why: str, retry_after: float | None = None) -> SuspendedByOwner:
    return SuspendedByOwner(f"suspended by the key's owner: {why}", retry_after=retry_after)


def _version(wrapped: str) -> int:
    found = _WRAPPED.fullmatch(wrapped)
    if found is None:
        raise CannotUnwrap
    return int(found[1])


def _ciphertext(answer: Answer) -> str:
    wrapped = answer.data.get("ciphertext")
    if not (isinstance(wrapped, str) and _WRAPPED.fullmatch(wrapped)):
        raise _senseless()
    return wrapped


def _demand_same(kek: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(kek, expected):
        raise Unavailable("the vault of the key's owner does not give back what it wrapped")


def _expect(answer: Answer) -> None:
    if answer.status != OK:
        raise _senseless()


def _senseless() -> Unavailable:
    return Unavailable("the vault of the key's owner gave an answer that makes no sense")
