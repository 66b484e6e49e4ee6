"""What botocore knows of AWS, as far as this gateway asks it.

botocore keeps whole models: every operation of S3 with its documentation, and the endpoints of every
service of AWS. Of that a client here uses ten operations; the rest is left out while it is read, which
spares a process eight of fourteen MiB. What is kept is as botocore has it, but for the times of objects:
they are given as the store writes them (`s3_times` reads them), since the reader that botocore has for them
takes 50 ms of the event loop for a page of a listing.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from botocore.loaders import JSONFileLoader, Loader

OPERATIONS: Final = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "CreateSession",  # botocore's own, for directory buckets
        "DeleteObject",
        "HeadBucket",
        "HeadObject",
        "ListMultipartUploads",
        "ListObjectsV2",
        "ListParts",
    }
)
_SERVICES: Final = frozenset({"s3", "sts", "sso", "sso-oidc"})  # the others give credentials
_TIMES: Final = ("Initiated", "LastModified")
_PROSE: Final = frozenset({"documentation", "documentationUrl"})


class _Files(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """Reads models without what nobody here looks at."""

    def _load_file(self, full_path: str, open_method: Callable[..., Any]) -> Any:
        try:
            with open_method(full_path, "rb") as file:
                model = json.load(file, object_pairs_hook=_terse)
        except FileNotFoundError:
            return None
        if "shapes" in model and model["metadata"]["serviceId"] == "S3":
            _narrow(model)
        for partition in model.get("partitions", ()):
            if all_of_them := partition.get("services"):
                kept = {name: each for name, each in all_of_them.items() if name in _SERVICES}
                partition["services"] = kept
        return model


def models() -> Loader:
    """Return what reads models for a session, and keeps what it read."""
    return Loader(file_loader=_Files())


def _terse(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object without its prose: an empty text where botocore asks for one."""
    return {name: "" if name in _PROSE and isinstance(each, str) else each for name, each in pairs}


def _narrow(model: dict[str, Any]) -> None:
    """Leave the operations that are used, and the shapes that they use."""
    used = {name: each for name, each in model["operations"].items() if name in OPERATIONS}
    shapes: dict[str, Any] = {}
    open_names = list(_named(used))
    while open_names:
        name = open_names.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            open_names.extend(_named(shapes[name]))
    for name in _TIMES:
        shapes[name] = {**shapes[name], "type": "string"}
    model["operations"], model["shapes"] = used, shapes


def _named(node: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a model refers to."""
    if isinstance(node, dict):
        if isinstance(name := node.get("shape"), str):
            yield name
        for each in node.values():
            yield from _named(each)
    elif isinstance(node, list):
        for each in node:
            yield from _named(each)
