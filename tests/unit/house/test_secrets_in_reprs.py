"""No value object shows a key, a secret or content when it is printed."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

PACKAGES = ("envelope", "keyservice", "gateway")
SECRET = {"dek", "kek", "key", "secret", "token", "value", "plaintext", "password", "material"}
SHOWN = {
    "envelope.envelope.Wrap.kek": "an id",
    "gateway.rotation.due.Schedule.kek": "a length of time",
    "gateway.rotation.rounds.Outlook.kek": "when it is due",
    "gateway.model.Version.kek": "an id",
    "keyservice.protocol.messages.RetireKek.kek": "an id",
    "gateway.repair.copying.Filled.kek": "an id",
    "gateway.ports.replicas.Finding.kek": "an id",
    "gateway.repair.verify.Under.kek": "an id",
    "gateway.ports.wraps.KekUse.kek": "an id",
    "gateway.ports.wraps.Rotation.kek": "a length of time",
    "gateway.ports.store.Stat.key": "a store's key: random ids",
    "gateway.ports.store.Unfinished.key": "a store's key: random ids",
    "gateway.stores.memory._Parts.key": "a store's key: random ids",
    "gateway.attachments.tokens.Grant.token": "a row, whose hash is not shown",
    "keyservice.access.audit.AuditRecord.key": "an id",
    "keyservice.protocol.messages.Item.kek": "an id",
    "keyservice.desk.desk.Outcome.kek": "an id",
    "keyservice.wire.DataKey.kek": "an id",
}


def _fields() -> Iterator[tuple[str, bool]]:
    """Yield the full name of every field of every value object, and whether its repr shows it."""
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, f"{package}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                for value in vars(importlib.import_module(module.name)).values():
                    if isinstance(value, type) and value.__module__ == module.name:
                        yield from _of(value)


def _of(kind: type) -> Iterator[tuple[str, bool]]:
    name = f"{kind.__module__}.{kind.__qualname__}"
    if dataclasses.is_dataclass(kind):
        shown = kind.__dataclass_params__.repr  # type: ignore[attr-defined]
        for field in dataclasses.fields(kind):
            yield f"{name}.{field.name}", shown and field.repr
    elif issubclass(kind, BaseModel):
        for field_name, info in kind.model_fields.items():
            yield f"{name}.{field_name}", info.repr


FIELDS = dict(_fields())


@pytest.mark.parametrize("name", sorted(n for n in FIELDS if n.rpartition(".")[2] in SECRET))
def test_no_field_with_a_secrets_name_is_shown(name: str) -> None:
    assert not FIELDS[name] or name in SHOWN


def test_the_exceptions_are_all_there() -> None:
    assert SHOWN.keys() <= {name for name, shown in FIELDS.items() if shown}
