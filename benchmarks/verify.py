"""Before anything is measured: what a subject takes, it must give back, whole and in ranges."""

import http.client
import os

from benchmarks.rounds import empty
from benchmarks.subjects import Place, Subject
from tests.servers.ports import LOOPBACK

SIZE = 3 * 1024 * 1024 + 5
FIRST, LAST = 1_234_567, 2_345_678


class GivesOtherBytes(Exception):
    """A subject does not store what it is given: measuring it would be worthless."""


def verify(subject: Subject, place: Place) -> None:
    """Store, read, read a range. Raises GivesOtherBytes."""
    data = os.urandom(SIZE)
    _ask(subject, place, "PUT", {"Content-Length": str(SIZE)}, data)
    if subject.reads:
        part = {"Range": f"bytes={FIRST}-{LAST}"}
        if _ask(subject, place, "GET", {}) != data:
            raise GivesOtherBytes(f"{subject.name} gives back other bytes than it was given")
        if _ask(subject, place, "GET", part) != data[FIRST : LAST + 1]:
            raise GivesOtherBytes(f"{subject.name} gives other bytes than those of the range")
    for bucket in subject.buckets:
        empty(bucket.folder)


def _ask(
    subject: Subject, place: Place, method: str, fields: dict[str, str], body: bytes = b""
) -> bytes:
    """Send the very head that the load generator would send."""
    line, *lines = subject.head(method, "verified", fields).rstrip("\r\n").split("\r\n")
    connection = http.client.HTTPConnection(LOOPBACK, place.port, timeout=60)
    try:
        connection.putrequest(method, line.split(" ")[1], skip_host=True, skip_accept_encoding=True)
        for name, _, value in (each.partition(": ") for each in lines):
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        given = answer.read()
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise GivesOtherBytes(f"{subject.name} answers {answer.status}: {given[:300]!r}")
    return given
