"""versitygw: a real S3 server on a folder, one root account.

What it stores is plain files below `folder`, so that a test can look at, damage or
remove them behind the server's back. A copy of it has to have the files' extended attributes, or
`attributes`, where the file system of the folder has none.
"""

import os
import secrets
import socket
from pathlib import Path

from tests.servers.daemon import Daemon
from tests.servers.ports import LOOPBACK, free_port

REGION = "us-east-1"


class Versitygw(Daemon):
    """One S3 server: `endpoint`, `access_key`, `secret_key`, `region`, and its `folder`."""

    def __init__(self, program: Path, home: Path) -> None:
        port = free_port()
        self.folder = home / "buckets"
        self.folder.mkdir(parents=True)
        self.attributes = home / "attributes"
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.region = REGION
        self.access_key = "test-" + secrets.token_hex(6)
        self.secret_key = secrets.token_hex(20)
        argv = [str(program), "--port", f"{LOOPBACK}:{port}", "--region", REGION]
        argv += ["--keep-alive", "posix"]
        if not _has_xattrs(self.folder):
            self.attributes.mkdir()
            argv += ["--sidecar", str(self.attributes)]
        super().__init__(
            [*argv, str(self.folder)],
            log=home / "versitygw.log",
            ready=lambda: _listening(port),
            env={"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
        )

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name; every folder is a bucket to versitygw."""
        name = "bucket-" + secrets.token_hex(6)
        self.bucket_folder(name).mkdir()
        return name

    def bucket_folder(self, bucket: str) -> Path:
        """Return the folder that holds the bucket's objects as files."""
        return self.folder / bucket


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _has_xattrs(folder: Path) -> bool:
    if not hasattr(os, "setxattr"):
        return False
    try:
        os.setxattr(folder, "user.sealgate-probe", b"1")
        os.removexattr(folder, "user.sealgate-probe")
    except OSError:
        return False
    return True
