"""Cases of whole segments."""

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors import independent as second
from tests.vectors.material import (
    BODY,
    CHUNK,
    DEK,
    HEADER,
    IDS,
    OTHER_DEK,
    SEALED,
    Case,
    flip,
    hexed,
    message,
    pieces,
    released,
    salt,
)

THREE = 2 * CHUNK + 100


def segment(
    about: str,
    sealed: bytes,
    plaintext: bytes,
    expect: str = "cannot-open",
    *,
    dek: bytes = DEK,
    ids: tuple[bytes, ...] = IDS,
    record: tuple[int, bytes] | None = None,
) -> Case:
    """Return a case of a whole segment; `plaintext` is what is released of it."""
    return {
        "kind": "segment",
        "about": about,
        "expect": expect,
        "dek": dek.hex(),
        "context": hexed(ids),
        "record": record and {"plaintext_size": record[0], "salt": record[1].hex()},
        "sealed": pieces(sealed),
        "released": released(plaintext),
    }


def segment_cases() -> Iterator[tuple[str, Case]]:
    """Yield segments that open and segments that must not."""
    for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, THREE):
        plaintext, sealed = message(f"size {size}", size)
        record = (size, salt(f"size {size}"))
        yield (
            f"segment-{size}-bytes",
            segment(f"{size} bytes open", sealed, plaintext, "opens", record=record),
        )
    yield from _damaged()
    yield from _rearranged()
    yield from _elsewhere()
    yield from _recorded()


def _damaged() -> Iterator[tuple[str, Case]]:
    plaintext, sealed = message("damaged", THREE)
    first, middle, last = HEADER, HEADER + SEALED, HEADER + 2 * SEALED
    for name, at, safe in (
        ("salt", 0, 0),
        ("salt-end", 23, 0),
        ("commitment", 24, 0),
        ("commitment-end", 55, 0),
        ("first-chunk", first + 5, 0),
        ("first-tag", middle - 1, 0),
        ("middle-chunk", middle + 8000, CHUNK),
        ("middle-tag", last - 16, CHUNK),
        ("last-chunk", last, 2 * CHUNK),
        ("last-tag", len(sealed) - 1, 2 * CHUNK),
    ):
        about = f"one bit of the {name.replace('-', ' ')} is flipped"
        yield f"segment-flip-{name}", segment(about, flip(sealed, at), plaintext[:safe])
    for size in (0, 1, 55, 56, 57, 71):
        about = f"cut to {size} bytes, less than an empty message has"
        yield f"segment-cut-to-{size}", segment(about, sealed[:size], b"")
    for boundary, chunks in ((middle, 1), (last, 2)):
        for offset in (-1, 0, 1, 16):
            size = boundary + offset
            safe = CHUNK * (chunks - (offset < 0))
            about = f"cut {offset:+} bytes from the end of chunk {chunks}"
            yield f"segment-cut-to-{size}", segment(about, sealed[:size], plaintext[:safe])
    about = "the last byte is missing"
    yield "segment-cut-last-byte", segment(about, sealed[:-1], plaintext[: 2 * CHUNK])


def _rearranged() -> Iterator[tuple[str, Case]]:
    plaintext, sealed = message("damaged", THREE)
    head = sealed[:HEADER]
    one, two, last = (sealed[at : at + SEALED] for at in range(HEADER, len(sealed), SEALED))
    for name, about, chunks, safe in (
        ("swapped", "the first two chunks are swapped", (two, one, last), 0),
        ("dropped", "the second chunk is gone", (one, last), 1),
        ("first-dropped", "the first chunk is gone", (two, last), 0),
        ("duplicated", "the first chunk is there twice", (one, one, two, last), 1),
        ("final-duplicated", "the final chunk is there twice", (one, two, last, last), 2),
        ("trailing", "20 bytes follow the final chunk", (one, two, last, bytes(20)), 2),
    ):
        mixed = head + b"".join(chunks)
        yield f"segment-{name}", segment(about, mixed, plaintext[: safe * CHUNK])
    derived = second.derive(DEK, salt("damaged"), BODY)
    extra = second.seal_chunks(derived, b"more", first=3)[0]
    about = "a chunk of the right key and number follows the final one"
    yield "segment-extended", segment(about, sealed + extra, plaintext[: 2 * CHUNK])
    _, retried = message("second attempt", THREE)
    spliced = head + one + retried[HEADER + SEALED :]
    about = "a first chunk of one attempt, the rest of another under the same key"
    yield "segment-attempts-spliced", segment(about, spliced, plaintext[:CHUNK])
    spliced = retried[:HEADER] + sealed[HEADER:]
    about = "the header of one attempt, the chunks of another under the same key"
    yield "segment-attempt-header", segment(about, spliced, b"")


def _elsewhere() -> Iterator[tuple[str, Case]]:
    _, sealed = message("elsewhere", 100)
    for at, name in enumerate(("tenant", "attachment", "version")):
        ids = (*IDS[:at], second.fixed("another", 16), *IDS[at + 1 :])
        about = f"sealed for another {name}"
        yield f"segment-other-{name}", segment(about, sealed, b"", ids=ids)
    swapped = (IDS[1], IDS[0], IDS[2])
    yield "segment-ids-swapped", segment("tenant and attachment swapped", sealed, b"", ids=swapped)
    yield "segment-other-key", segment("another data key", sealed, b"", dek=OTHER_DEK)
    _, sealed = message("elsewhere", 100, second.context(IDS, "attributes"))
    yield "segment-other-purpose", segment("sealed as attributes", sealed, b"")
    older = BODY.replace(b"sealgate/1", b"sealgate/0")
    _, sealed = message("elsewhere", 100, older)
    yield "segment-other-format", segment("sealed under format version 0", sealed, b"")
    _, sealed = message("elsewhere", 100, b"")
    yield "segment-no-context", segment("sealed with an empty context", sealed, b"")
    yield from _salamander()


def _salamander() -> Iterator[tuple[str, Case]]:
    ours, other = (second.derive(dek, salt("salamander"), BODY) for dek in (DEK, OTHER_DEK))
    chunk = second.salamander(ours, other)
    sealed = salt("salamander") + ours.commitment + chunk
    plaintext = AESGCM(ours.key).decrypt(ours.nonce, chunk, None)
    record = (len(plaintext), salt("salamander"))
    about = "a chunk that AES-GCM accepts under two keys, opened under the one committed to"
    yield "segment-salamander", segment(about, sealed, plaintext, "opens", record=record)
    about = "the same bytes under the second key, which the commitment refuses"
    yield (
        "segment-salamander-other-key",
        segment(about, sealed, b"", dek=OTHER_DEK, record=record),
    )


def _recorded() -> Iterator[tuple[str, Case]]:
    plaintext, sealed = message("recorded", THREE)
    good = salt("recorded")
    for name, about, record, safe in (
        ("size-short", "longer than the record says", (THREE - 1, good), 2 * CHUNK),
        ("size-long", "shorter than the record says", (THREE + 1, good), 2 * CHUNK),
        ("chunk-short", "a chunk longer than the record says", (CHUNK, good), CHUNK),
        ("salt", "the salt is not the recorded one", (THREE, salt("recorded otherwise")), 0),
    ):
        case = segment(about, sealed, plaintext[:safe], record=record)
        yield f"segment-record-{name}", case
