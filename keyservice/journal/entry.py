"""One entry of a tenant's key journal, and the chain that entries make.

An entry is one line of JSON. It carries its number and the SHA-256 of the line before it, so that a line
which was altered, removed, added or moved is seen by whoever has the others (`Chain`). The instance that
wrote it signed it, so that whoever has the public keys of the instances sees a line that somebody else made.
It holds key ids, counts, who, when and why, and never a key. What this cannot show: that the last
lines were removed. Keep an export: whoever has one sees that, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from envelope.signature import Signer, demand_public, marked

FORMAT: Final = 1
GENESIS: Final = "0" * 64
REMOVED: Final = ""
"""In the place of a line that is there no more."""

WORDS: Final = "sealgate key journal 1"
_SIGNED: Final = re.compile(r'(?P<head>\{.*),"signature":"(?P<mark>[A-Za-z0-9+/=]+)"\}')

BEGUN, DONE, USES = "begun", "done", "uses"
_FIELDS: Final[Mapping[str, type]] = {
    "sequence": int,
    "previous": str,
    "tenant": str,
    "id": str,
    "instance": str,
    "time": str,
    "kind": str,
    "last": dict,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `kind` says what else `document` holds: a change that is `begun`, `done`, or `uses`."""

    sequence: int
    previous: str
    tenant: str
    time: str
    kind: str
    last: Mapping[str, str]
    """Of each KEK, when it was last used, as far as it was known: of the newest entry, the best known."""

    document: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)

    @property
    def hash(self) -> str:
        """What the next line holds as `previous`."""
        return digest(self.text)


def digest(text: str) -> str:
    """Return the SHA-256 of a line, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_text(document: Mapping[str, Any], signer: Signer | None = None) -> str:
    """Return the line of a document, ASCII; the signature is the last field, over all before it."""
    named = {} if signer is None else {"public_key": signer.public}
    text = json.dumps(
        {"format": FORMAT, **document, **named}, separators=(",", ":"), sort_keys=True
    )
    if signer is None:
        return text
    return f'{text[:-1]},"signature":"{signer.mark(text, WORDS)}"}}'


def from_text(text: str) -> Entry:
    """Return the entry of a line. Raises ValueError when it is none."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("journal entry is no JSON object") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("journal entry is of an unknown format")
    for name, kind in _FIELDS.items():
        if type(document.get(name)) is not kind:
            raise ValueError(f"journal entry has no {name}")
    return Entry(
        sequence=document["sequence"],
        previous=document["previous"],
        tenant=document["tenant"],
        time=document["time"],
        kind=document["kind"],
        last={str(kek): str(time) for kek, time in document["last"].items()},
        document=document,
        text=text,
    )


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Lines in order, from the one asked for on, and the number of the newest that there is."""

    lines: Sequence[str]
    head: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the journal, at which number."""

    sequence: int
    what: str


class Chain:
    """Takes a tenant's lines from the first on, and tells what does not fit."""

    def __init__(self, tenant: str, trusted: Collection[str] = ()) -> None:
        """Demand of each line that one of the `trusted` public keys signed it, where there are any.

        Raises SignatureRefused for what is no public key.
        """
        self._tenant = tenant
        self._trusted = [demand_public(key) for key in trusted]
        self._previous: str | None = GENESIS
        self.sequence = 0

    @property
    def head(self) -> str:
        """The hash of the last line: whoever noted it sees if that line is altered later."""
        return self._previous or ""

    def take(self, text: str) -> Fault | None:
        """Take the next line; return what is wrong with it or before it, None when all fits."""
        self.sequence += 1
        previous, self._previous = self._previous, digest(text)
        if text == REMOVED:
            self._previous = None  # nobody can tell what it was
            return Fault(self.sequence, "removed")
        try:
            what = self._misfit(from_text(text), previous)
        except ValueError as error:
            what = str(error)
        return Fault(self.sequence, what) if what else None

    def _misfit(self, entry: Entry, previous: str | None) -> str:
        """Say what is wrong with an entry after one of that hash, or nothing."""
        if entry.tenant != self._tenant:
            return "belongs to another tenant"
        if entry.sequence != self.sequence:
            return f"says that it is entry {entry.sequence}"
        if previous is not None and entry.previous != previous:
            return "does not follow the entry before it: one was altered"
        if self._trusted and not _signed(entry, self._trusted):
            return "is not as a key that is trusted signed it"
        return ""


def _signed(entry: Entry, trusted: Collection[str]) -> bool:
    found = _SIGNED.fullmatch(entry.text)
    if found is None:
        return False
    claimed = entry.document.get("public_key")
    return any(
        claimed == key and marked(found["head"] + "}", WORDS, found["mark"], key) for key in trusted
    )


__all__ = [
    "BEGUN",
    "DONE",
    "GENESIS",
    "REMOVED",
    "USES",
    "Chain",
    "Entry",
    "Fault",
    "JournalPage",
    "digest",
    "from_text",
    "to_text",
]
