"""Header fields that carry what will be sealed: types, user metadata and digests.

Guarantees that what comes in is bounded and well formed, so that what goes out again can neither
split a header nor mislead a browser. Specifications: RFC 9530 (digests), RFC 9110 section 8.3
(Content-Type). The file name has a module of its own, `disposition`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from multidict import CIMultiDictProxy

from envelope.envelope import Attributes
from gateway.errors import Invalid
from gateway.flow.digests import SUPPORTED
from gateway.http import disposition
from gateway.http.text import is_plain, size_of

META = "x-sealgate-meta-"
DEFAULT_TYPE = "application/octet-stream"
MAX_META, MAX_KEY, MAX_VALUE, MAX_TOTAL = 64, 128, 2048, 8192
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110, not a secret
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}([ \t]*;[\x20-\x7e]*)?")
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")
_LENGTHS = {"sha-256": 32, "sha-512": 64}
_MAX_TYPE = 255


def content_type(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the declared Content-Type. Raises Invalid."""
    value = headers.get("Content-Type")
    if value is None:
        return None
    if len(value) > _MAX_TYPE or not _TYPE.fullmatch(value):
        raise Invalid("Content-Type is not of the form type/subtype; parameters")
    return value


def metadata(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """Return the user metadata of `X-Sealgate-Meta-*` fields. Raises Invalid."""
    found: dict[str, str] = {}
    for field, sent in headers.items():
        if not field.lower().startswith(META):
            continue
        key = field.lower()[len(META) :]
        if not 0 < len(key) <= MAX_KEY or key in found:
            raise Invalid("a metadata field has a name of its own, of at most 128 characters")
        try:
            value = unquote(sent, errors="strict")
        except UnicodeDecodeError:
            raise Invalid("a metadata value is UTF-8, percent-encoded where needed") from None
        if not is_plain(value) or size_of(value) > MAX_VALUE:
            raise Invalid(f"a metadata value has at most {MAX_VALUE} bytes, without controls")
        found[key] = value
    total = sum(len(key) + size_of(value) for key, value in found.items())
    if len(found) > MAX_META or total > MAX_TOTAL:
        raise Invalid(f"metadata is at most {MAX_META} fields of {MAX_TOTAL} bytes together")
    return found


def digests(headers: CIMultiDictProxy[str]) -> dict[str, bytes]:
    """Return the digests declared by Repr-Digest and Content-Digest. Raises Invalid.

    Both mean the same here, because an encoded body is refused. An algorithm that is not supported
    is ignored (RFC 9530, section 2), so that a client may send several.
    """
    found: dict[str, bytes] = {}
    for field in ("Repr-Digest", "Content-Digest"):
        for value in headers.getall(field, []):
            for member in value.split(","):
                name, digest = _digest(field, member)
                if name in SUPPORTED and found.setdefault(name, digest) != digest:
                    raise Invalid("the declared digests contradict each other")
    return found


def _digest(field: str, member: str) -> tuple[str, bytes]:
    match = _MEMBER.fullmatch(member)
    if match is None:
        raise Invalid(f"{field} has the form sha-256=:base64:")
    try:
        value = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise Invalid(f"{field} does not hold valid base64") from None
    if len(value) != _LENGTHS.get(match[1], len(value)):
        raise Invalid(f"{field} has a {match[1]} of the wrong length")
    return match[1], value


def wanted(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    """Return the supported digests that Want-Repr-Digest or Want-Content-Digest asks for."""
    asked = ",".join(
        headers.getall("Want-Repr-Digest", []) + headers.getall("Want-Content-Digest", [])
    )
    pairs = (pair.partition("=") for pair in asked.split(","))
    return frozenset(
        name.strip()
        for name, _, weight in pairs
        if name.strip() in SUPPORTED and weight.strip() != "0"
    )


def digest_field(values: Mapping[str, bytes]) -> str:
    """Return the value of a Repr-Digest field."""
    return ", ".join(f"{name}=:{text}:" for name, text in digest_texts(values).items())


def digest_texts(values: Mapping[str, bytes]) -> dict[str, str]:
    """Return the digests that clients know, in base64."""
    return {
        name: base64.b64encode(value).decode()
        for name, value in sorted(values.items())
        if name in SUPPORTED
    }


def described(attributes: Attributes) -> dict[str, str]:
    """Return the response fields that describe opened attributes."""
    fields = {
        "Content-Disposition": disposition.field(attributes.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if digest := digest_field(attributes.digests):
        fields["Repr-Digest"] = digest
    for key, value in attributes.user.items():
        fields[f"X-Sealgate-Meta-{key}"] = _escaped(value)
    return fields


def _escaped(value: str) -> str:
    """Return a metadata value as ASCII; blanks at its ends would be lost on the wire."""
    inner = quote(value.strip(" "), safe=" !#$&'()*+,/:;=?@[]\"<>^`{|}")
    if not inner:
        return "%20" * len(value)
    before = len(value) - len(value.lstrip(" "))
    after = len(value) - len(value.rstrip(" "))
    return "%20" * before + inner + "%20" * after
