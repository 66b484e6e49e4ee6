"""Signed reports: what a run did, so that it can be shown later and cannot be altered unnoticed.

How a report is signed and verified is `envelope.signature`'s; here are its files. A key file is made
once, for its owner alone; a report that can be seen is there whole.
"""

import os
from pathlib import Path
from typing import Final

from envelope.signature import SignatureRefused as ReportRefused
from envelope.signature import Signer, canonical, new_signer, signer_of, verify

_OTHERS: Final = 0o077

__all__ = ["ReportRefused", "Signer", "canonical", "load", "make", "put", "verify"]


def load(path: Path) -> Signer:
    """Return the signer of a key file. Raises ReportRefused, FileNotFoundError if there is none."""
    try:
        with path.open("rb") as file:
            mode, pem = os.fstat(file.fileno()).st_mode, file.read()
        if mode & _OTHERS:
            raise ReportRefused(f"others may read the key in {path}: give it mode 0600")
        return signer_of(pem)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ReportRefused(f"cannot read the key in {path}: {type(error).__name__}") from None


def make(path: Path) -> Signer:
    """Make a key file that only its owner may read; one that is there already is loaded instead."""
    signer = new_signer()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put(draft, signer.pem)
        try:
            os.link(draft, path)  # whole or not at all, and never over another one
        except FileExistsError:
            return load(path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ReportRefused(f"cannot make a key in {path}: {error.strerror}") from None
    return signer


def put(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, durably; whoever sees it sees it whole."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
