"""How long a call of the catalog may take: as the settings say, unless work beside requests says more."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CatalogUnavailable
from gateway.settings.config import Settings
from gateway.wiring import core


@pytest.mark.parametrize(
    ("told", "work", "given"), [(None, None, None), (5.0, None, 5.0), (5.0, 60.0, 60.0)]
)
async def test_the_catalog_is_given_its_patience(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    told: float | None,
    work: float | None,
    given: float | None,
) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    target = {"name": "a", "role": "primary", "kind": "folder", "path": tmp_path}
    settings = Settings.model_validate(
        {
            "keyservice": {"url": "http://127.0.0.1:9", "token_file": token},
            "catalog": {"url": "sqlite:////nowhere", "patience": told},
            "targets": [target],
        }
    )
    found: list[Any] = []

    async def opened(_: str, **options: Any) -> None:
        found.append(options["patience"])
        raise CatalogUnavailable("not in this test")

    monkeypatch.setattr(core, "open_catalog", opened)
    with pytest.raises(CatalogUnavailable):
        async with core.open_core(settings, patience=work):
            pass
    assert found == [given]
