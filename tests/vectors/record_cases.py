"""Cases of contexts, wrapped DEKs, attributes and envelopes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.vectors import independent as second
from tests.vectors.material import (
    CREATED,
    DEK,
    IDS,
    KEK,
    OTHER_DEK,
    Case,
    flip,
    hexed,
    pieces,
    salt,
)

BOUND = second.context(IDS, "dek")
PLAINTEXT = b"hello, sealgate\n"
BODY = second.seal(DEK, salt("inline"), second.context(IDS, "body"), PLAINTEXT)
RECORD = second.segment_record(len(PLAINTEXT), BODY)
CORE = second.core(IDS, CREATED, [RECORD])
ATTRIBUTES: tuple[Any, ...] = (
    "hello.txt",
    "text/plain",
    "note-1",
    {"team": "blue", "a": "first"},
    {"sha-256": hashlib.sha256(PLAINTEXT).digest()},
)
SEALED = second.seal(
    DEK, salt("attributes"), second.attributes_context(IDS, CORE), second.cbor(ATTRIBUTES)
)
WRAPPED = second.wrap(KEK, salt("wrap"), "kek-1", DEK, BOUND)
MAGIC = "sealgate/1"
WRAPS = ((WRAPPED, CREATED),)


def context_cases() -> Iterator[tuple[str, Case]]:
    """Yield contexts and their bytes."""
    for purpose, extra in (("body", b""), ("dek", b""), ("attributes", bytes(64))):
        yield (
            f"context-{purpose}",
            {
                "kind": "context",
                "about": f"the context of {purpose}",
                "expect": "opens",
                "context": hexed(),
                "purpose": purpose,
                "extra": extra.hex(),
                "encoded": second.context(IDS, purpose, extra).hex(),
            },
        )


def wrap_cases() -> Iterator[tuple[str, Case]]:
    """Yield wrapped data keys."""

    def case(about: str, wrapped: bytes, expect: str = "cannot-open", **other: bytes) -> Case:
        return {
            "kind": "wrap",
            "about": about,
            "expect": expect,
            "kek": other.get("kek", KEK).hex(),
            "context": other.get("bound", BOUND).hex(),
            "wrapped": wrapped.hex(),
            "dek": DEK.hex(),
        }

    other = (second.fixed("another", 16), *IDS[1:])
    name = second.lp(b"kek-1")
    yield "wrap", case("a wrapped key opens", WRAPPED, "opens")
    yield "wrap-other-kek", case("another kek", WRAPPED, kek=second.fixed("other kek"))
    yield (
        "wrap-other-tenant",
        case("another tenant", WRAPPED, bound=second.context(other, "dek")),
    )
    yield (
        "wrap-other-purpose",
        case("the context of a body", WRAPPED, bound=second.context(IDS, "body")),
    )
    yield "wrap-renamed", case("the name of the kek changed", flip(WRAPPED, 6))
    for at in (7, 31, 63, 100, -1):
        yield f"wrap-flip-{at % len(WRAPPED)}", case("one bit is flipped", flip(WRAPPED, at))
    for about, label, wrapped in (
        ("cut", "the last byte is missing", WRAPPED[:-1]),
        ("trailing", "a byte follows", WRAPPED + b"\0"),
        ("empty", "nothing at all", b""),
        ("no-name", "the name is empty", b"\0\0" + WRAPPED[len(name) :]),
        ("long-name", "a name of 65 bytes", second.wrap(KEK, salt("w"), "k" * 65, DEK, BOUND)),
        ("space", "a space in the name", second.wrap(KEK, salt("w"), "kek 1", DEK, BOUND)),
        ("not-ascii", "a name beyond ASCII", second.wrap(KEK, salt("w"), "k\xe9k", DEK, BOUND)),
    ):
        yield f"wrap-{about}", case(label, wrapped, "malformed")


def attributes_cases() -> Iterator[tuple[str, Case]]:
    """Yield sealed attributes."""

    def case(
        about: str, sealed: bytes, expect: str = "cannot-open", core: bytes = CORE, dek: bytes = DEK
    ) -> Case:
        return {
            "kind": "attributes",
            "about": about,
            "expect": expect,
            "dek": dek.hex(),
            "core": core.hex(),
            "sealed": pieces(sealed),
            "attributes": described() if expect == "opens" else None,
        }

    def resealed(plaintext: bytes, core: bytes = CORE) -> bytes:
        return second.seal(DEK, salt("attributes"), second.attributes_context(IDS, core), plaintext)

    yield "attributes", case("attributes open with their core", SEALED, "opens")
    newer = second.core(IDS, CREATED + 1, [RECORD])
    yield "attributes-other-core", case("a core of another time", SEALED, core=newer)
    record = RECORD[:-1] + bytes([RECORD[-1] ^ 1])
    changed = second.core(IDS, CREATED, [record])
    yield "attributes-other-digest", case("a core with another digest", SEALED, core=changed)
    doubled = second.core(IDS, CREATED, [RECORD, RECORD])
    yield "attributes-other-segments", case("a core with a segment more", SEALED, core=doubled)
    yield "attributes-other-key", case("another data key", SEALED, dek=OTHER_DEK)
    for at in (0, 30, 60, -1):
        yield f"attributes-flip-{at % len(SEALED)}", case("one bit is flipped", flip(SEALED, at))
    yield "attributes-cut", case("the last byte is missing", SEALED[:-1])
    name, kind, reference, user, digests = ATTRIBUTES
    for label, about, expect, fields in (
        ("long-name", "a name of 1025 bytes", "too-large", ("n" * 1025, *ATTRIBUTES[1:])),
        ("field-less", "a field too few", "malformed", ATTRIBUTES[:4]),
        ("null-reference", "no reference", "malformed", (name, kind, None, user, digests)),
        ("digest-text", "a digest as text", "malformed", (*ATTRIBUTES[:4], {"sha-256": "x"})),
        ("digest-name", "an algorithm in capitals", "malformed", (*ATTRIBUTES[:4], {"MD5": b"x"})),
        (
            "many-entries",
            "65 user entries",
            "too-large",
            (name, kind, reference, {str(n): "" for n in range(65)}, digests),
        ),
    ):
        yield f"attributes-{label}", case(about, resealed(second.cbor(fields)), expect)
    good = second.cbor(ATTRIBUTES)
    first, last = second.cbor("a") + second.cbor("first"), second.cbor("team") + second.cbor("blue")
    for label, about, plaintext in (
        ("unsorted", "map keys out of order", good.replace(first + last, last + first)),
        ("duplicate", "a map key twice", good.replace(first + last, first + first)),
        ("utf8", "a name that is not UTF-8", good.replace(b"hello", b"hell\xff")),
    ):
        yield f"attributes-{label}", case(about, resealed(plaintext), "malformed")


def described() -> Mapping[str, Any]:
    """Return the attributes by name."""
    name, content_type, reference, user, digests = ATTRIBUTES
    return {
        "name": name,
        "content_type": content_type,
        "reference": reference,
        "user": user,
        "digests": {key: value.hex() for key, value in digests.items()},
    }


def envelope_cases() -> Iterator[tuple[str, Case]]:
    """Yield envelopes."""

    def case(about: str, data: bytes, expect: str = "malformed") -> Case:
        return {"kind": "envelope", "about": about, "expect": expect, "envelope": pieces(data)}

    def fields(*, core: bytes = CORE, wraps: Any = WRAPS, body: bytes | None = BODY) -> bytes:
        return second.cbor((MAGIC, core, SEALED, wraps, body))

    good = fields()
    yield (
        "envelope-inline",
        {
            **case("an inline body", good, "opens"),
            "core_digest": hashlib.sha512(CORE).hexdigest(),
            "dek": DEK.hex(),
            "kek": KEK.hex(),
            "attributes": described(),
            "body": PLAINTEXT.hex(),
        },
    )
    yield "envelope-no-body", case("a body of its own", fields(body=None), "opens")
    eight = [(second.wrap(KEK, salt(f"w{n}"), f"kek-{n}", DEK, BOUND), CREATED) for n in range(9)]
    yield "envelope-eight-wraps", case("eight wraps", fields(wraps=eight[:8]), "opens")
    yield "envelope-nine-wraps", case("nine wraps", fields(wraps=eight), "too-large")
    yield "envelope-no-wraps", case("no wraps", fields(wraps=()))
    yield "envelope-same-kek", case("two wraps under one kek", fields(wraps=WRAPS * 2))
    yield "envelope-wrap-cut", case("a wrap cut", fields(wraps=((WRAPPED[:-1], CREATED),)))
    yield "envelope-body-short", case("a body cut", fields(body=BODY[:-1]))
    yield "envelope-body-long", case("a body with a byte more", fields(body=BODY + b"\0"))
    yield "envelope-trailing", case("a byte follows", good + b"\0")
    yield "envelope-cut", case("the last byte is missing", good[:-1])
    yield "envelope-empty", case("nothing at all", b"")
    yield "envelope-older", case("format version 0", good.replace(b"gate/1", b"gate/0", 1))
    yield "envelope-newer", case("format version 2", good.replace(b"gate/1", b"gate/2", 1))
    yield "envelope-field-more", case("six fields", b"\x86" + good[1:] + b"\xf6")
    yield "envelope-indefinite", case("an indefinite array", b"\x9f" + good[1:] + b"\xff")
    yield "envelope-tagged", case("a CBOR tag in front", b"\xd9\xd9\xf7" + good)
    yield "envelope-long-head", case("a head longer than needed", b"\x98\x05" + good[1:])
    start = good[: good.index(CORE) - 2]
    huge = start + b"\x5b" + (1 << 62).to_bytes(8, "big")
    yield "envelope-huge-core", case("a core of 2^62 bytes, by its head", huge, "too-large")
    huge = start + b"\x5a" + (1 << 20).to_bytes(4, "big")
    yield "envelope-absent-core", case("a core of 1 MiB, by its head", huge)
    yield "envelope-oversize", case("4 MiB and a byte", bytes((4 << 20) + 1), "too-large")
    yield from _cores(case, fields)


def _cores(case: Callable[..., Case], fields: Callable[..., bytes]) -> Iterator[tuple[str, Case]]:
    def core(*values: Any) -> bytes:
        return fields(core=second.cbor(values), body=None)

    yield "core-version-0", case("core version 0", core(0, *IDS, CREATED, RECORD))
    yield "core-version-2", case("core version 2", core(2, *IDS, CREATED, RECORD))
    yield "core-short-id", case("an id of 15 bytes", core(1, IDS[0][:15], *IDS[1:], 0, RECORD))
    yield (
        "core-long-id",
        case("an id of 17 bytes", core(1, IDS[0] + b"\0", *IDS[1:], 0, RECORD), "too-large"),
    )
    yield "core-late", case("a time of 2^53", core(1, *IDS, 1 << 53, RECORD), "too-large")
    yield "core-no-segments", case("no segments", core(1, *IDS, 0, b""))
    yield "core-cut-segment", case("a segment cut", core(1, *IDS, 0, RECORD + RECORD[:-1]))
    large = (1 << 52).to_bytes(8, "big") + RECORD[8:]
    yield "core-huge-segment", case("a segment of 4 PiB", core(1, *IDS, 0, large), "too-large")
    large = ((1 << 52) - 1).to_bytes(8, "big") + RECORD[8:]
    about = "segments that together reach 4 PiB"
    yield "core-huge-body", case(about, core(1, *IDS, 0, large + RECORD), "too-large")
    yield "core-field-more", case("a seventh field of null", core(1, *IDS, 0, RECORD, None))
    again = core(1, *IDS, CREATED, RECORD, CREATED + 1)
    yield "core-resealed", case("sealed again a microsecond later", again, "opens")
    same = core(1, *IDS, CREATED, RECORD, CREATED)
    yield "core-resealed-at-once", case("sealed again when it was created", same)
    late = core(1, *IDS, CREATED, RECORD, 1 << 53)
    yield "core-resealed-late", case("sealed again at 2^53", late, "too-large")
    more = core(1, *IDS, CREATED, RECORD, CREATED + 1, 0)
    yield "core-fields-more", case("eight fields", more, "too-large")
    long_head = b"\x98\x06" + second.cbor((1, *IDS, CREATED, RECORD))[1:]
    yield "core-long-head", case("a head longer than needed", fields(core=long_head, body=None))
    many = bytes(64 * 16385)
    yield "core-many-segments", case("16385 segments", core(1, *IDS, 0, many), "too-large")
