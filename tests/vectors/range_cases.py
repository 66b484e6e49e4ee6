"""Cases of ranges over a body of three segments."""

from collections.abc import Iterator, Sequence

from tests.vectors.material import (
    CHUNK,
    DEK,
    HEADER,
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

SIZES = (100, 2 * CHUNK, CHUNK + 7)
TOTAL = sum(SIZES)

# Where the sealed segments end, and where the second chunk of the second one begins.
FIRST = HEADER + 100 + 16
SECOND = FIRST + HEADER + 2 * SEALED + 16
THIRD = SECOND + HEADER + SEALED + 7 + 16
MIDDLE = FIRST + HEADER + SEALED

# An extent is segment, start, stop, first chunk, skip, take.
ALL = (
    (0, 0, FIRST, 0, 0, 100),
    (1, FIRST, SECOND, 0, 0, 2 * CHUNK),
    (2, SECOND, THIRD, 0, 0, CHUNK + 7),
)
INSIDE = ((1, MIDDLE, MIDDLE + SEALED, 1, 200, 100),)
INSIDE_START = 100 + CHUNK + 200
TO_THE_END = ((1, MIDDLE, SECOND, 1, 0, CHUNK),)
ACROSS = ((0, 0, FIRST, 0, 99, 1), (1, FIRST, MIDDLE, 0, 0, 1))


def body() -> tuple[bytes, bytes]:
    """Return the plaintext and the ciphertext of the body."""
    parts = [message(f"part of {size}", size) for size in SIZES]
    return b"".join(plain for plain, _ in parts), b"".join(sealed for _, sealed in parts)


def opens(
    about: str,
    start: int,
    stop: int,
    extents: Sequence[Sequence[int]],
    *,
    damage: int | None = None,
) -> Case:
    """Return a case of a range that opens."""
    plaintext, sealed = body()
    return {
        "kind": "range",
        "about": about,
        "expect": "opens",
        "dek": DEK.hex(),
        "context": hexed(),
        "segments": [
            {"plaintext_size": size, "salt": salt(f"part of {size}").hex()} for size in SIZES
        ],
        "body": pieces(sealed if damage is None else flip(sealed, damage)),
        "start": start,
        "stop": stop,
        "extents": [list(extent) for extent in extents],
        "released": released(plaintext[start:stop]),
    }


def fails(case: Case, about: str, safe: int, dek: bytes = DEK) -> Case:
    """Return the case of a range that releases `safe` bytes and then fails."""
    start = case["start"]
    return {
        **case,
        "about": about,
        "expect": "cannot-open",
        "dek": dek.hex(),
        "released": released(body()[0][start : start + safe]),
    }


def range_cases() -> Iterator[tuple[str, Case]]:
    """Yield ranges that open and ranges that must not."""
    end = 100 + 2 * CHUNK
    for name, about, start, stop, extents in (
        ("nothing", "an empty range reads nothing", 50, 50, ()),
        ("all", "a whole body", 0, TOTAL, ALL),
        ("inside", "100 bytes of one chunk", INSIDE_START, INSIDE_START + 100, INSIDE),
        ("to-the-end", "a final chunk comes along, even empty", end - CHUNK, end, TO_THE_END),
        ("from-the-start", "a header comes along", 100, 101, ((1, FIRST, MIDDLE, 0, 0, 1),)),
        ("across", "the end of one segment, the start of the next", 99, 101, ACROSS),
        ("last-byte", "the last byte", TOTAL - 1, TOTAL, ((2, THIRD - 23, THIRD, 1, 6, 1),)),
    ):
        yield f"range-{name}", opens(about, start, stop, extents)
    about = "damage in a chunk that is not read stays unnoticed"
    beside = opens(about, INSIDE_START, INSIDE_START + 100, INSIDE, damage=FIRST + HEADER)
    yield "range-damage-beside", beside
    for name, about, at, safe in (
        ("chunk", "a damaged second chunk of the second segment", MIDDLE + 9, 100 + CHUNK),
        ("salt", "a damaged salt of the second segment", FIRST, 100),
        ("commitment", "a damaged commitment of the second segment", FIRST + 30, 100),
        ("final", "a damaged tag of an empty final chunk", SECOND - 1, 100 + 2 * CHUNK),
        ("last-byte", "a damaged last byte", THIRD - 1, 100 + 3 * CHUNK),
    ):
        yield f"range-damage-{name}", fails(opens("", 0, TOTAL, ALL, damage=at), about, safe)
    inside = opens("", INSIDE_START, INSIDE_START + 100, INSIDE)
    yield "range-other-key", fails(inside, "another data key", 0, OTHER_DEK)
