"""Header fields that carry what will be sealed: names, types, user metadata and digests.

Guarantees that what comes in is bounded and well formed, so that what goes out again can neither
split a header nor mislead a browser. Specifications: RFC 6266 and 8187 (`filename*`), RFC 9530
(digests), RFC 9110 section 8.3 (Content-Type).
"""

import base64
import binascii
import re
from collections.abc import Mapping
from email.message import Message
from urllib.parse import quote, unquote

from multidict import CIMultiDictProxy

from envelope.envelope import Attributes
from gateway.digests import SUPPORTED
from gateway.errors import Invalid

META = "x-sealgate-meta-"
DEFAULT_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(\s*;[\x20-\x7e]*)?")
_MEMBER = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*")
_LENGTHS = {"sha-256": 32, "sha-512": 64}
_MAX_NAME, _MAX_TYPE, _MAX_META, _MAX_KEY, _MAX_VALUE = 1024, 255, 64, 128, 2048


def content_type(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the declared Content-Type. Raises Invalid."""
    value = headers.get("Content-Type")
    if value is None:
        return None
    if len(value) > _MAX_TYPE or not _TYPE.fullmatch(value):
        raise Invalid("Content-Type is not of the form type/subtype; parameters")
    return value


def file_name(headers: CIMultiDictProxy[str]) -> str | None:
    """Return the name in Content-Disposition, `filename*` before `filename`. Raises Invalid."""
    value = headers.get("Content-Disposition")
    if value is None:
        return None
    message = Message()
    message["Content-Disposition"] = value
    extended = re.search(r"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", value, re.IGNORECASE)
    try:
        name = (
            unquote(extended[1], errors="strict")
            if extended is not None
            else message.get_filename()
        )
    except UnicodeDecodeError:
        raise Invalid("filename* in Content-Disposition is not valid UTF-8") from None
    if not name:
        return None
    if len(name.encode(errors="replace")) > _MAX_NAME or not name.isprintable():
        raise Invalid(f"a file name has at most {_MAX_NAME} bytes and no control characters")
    return name


def metadata(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """Return the user metadata of `X-Sealgate-Meta-*` fields. Raises Invalid."""
    found: dict[str, str] = {}
    for field, sent in headers.items():
        if not field.lower().startswith(META):
            continue
        key = field.lower()[len(META) :]
        value = unquote(sent)
        if not 0 < len(key) <= _MAX_KEY or key in found:
            raise Invalid("a metadata field has a name of its own, of at most 128 characters")
        if len(value.encode(errors="replace")) > _MAX_VALUE or not value.isprintable():
            raise Invalid(f"a metadata value has at most {_MAX_VALUE} bytes, without controls")
        found[key] = value
    if len(found) > _MAX_META:
        raise Invalid(f"an attachment has at most {_MAX_META} metadata fields")
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
                    raise Invalid("Repr-Digest and Content-Digest contradict each other")
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
        name.strip() for name, _, weight in pairs if name.strip() in SUPPORTED and weight != "0"
    )


def digest_field(values: Mapping[str, bytes]) -> str:
    """Return the value of a Repr-Digest field."""
    return ", ".join(
        f"{name}=:{base64.b64encode(value).decode()}:"
        for name, value in sorted(values.items())
        if name in SUPPORTED
    )


def described(attributes: Attributes) -> dict[str, str]:
    """Return the response fields that describe opened attributes."""
    fields = {
        "Content-Disposition": _disposition(attributes.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if digest := digest_field(attributes.digests):
        fields["Repr-Digest"] = digest
    for key, value in attributes.user.items():
        fields[f"X-Sealgate-Meta-{key}"] = quote(value, safe=" !#$&'()*+,/:;=?@[]\"<>^`{|}")
    return fields


def _disposition(name: str | None) -> str:
    """Return Content-Disposition with a plain fallback and the exact name as `filename*`."""
    if name is None:
        return "attachment"
    plain = re.sub(r"[^ !#$&+\-.0-9A-Z^_`a-z{}~()\[\],;=@]", "_", name)
    encoded = quote(name, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
