"""Settings: three layers, nothing unknown, nothing unsafe."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from keyservice.access.policy import Caller, Operation
from keyservice.access.policy_file import load as load_policy
from keyservice.config import ENV_PREFIX, Settings, load
from keyservice.layered import ConfigError, names

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
MINIMAL = """
[development]
token_file = "t"
[root.local]
key_file = "k"
records = "r"
[audit]
file = "a"
"""
TLS = MINIMAL.replace("[development]", "[tls]").replace(
    'token_file = "t"', 'certificate = "c"\nprivate_key = "k"\nclient_ca = "a"'
)
VAULT = MINIMAL.replace("[root.local]", "[root.vault]").replace(
    'key_file = "k"\nrecords = "r"', 'url = "https://vault:8200"'
)
APPROLE = '[root.vault.approle]\nrole_id_file = "r"\nsecret_id_file = "s"\n'
HELD = """[[held]]
name = "acme"
url = "https://vault:8200"
tenants = []
[held.approle]
role_id_file = "r"
secret_id_file = "s"
"""


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "c.toml"
    path.write_text(text)
    return load(path)


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    settings = loaded(tmp_path, MINIMAL)
    assert settings.listen.host == "127.0.0.1"
    assert settings.audit.fsync
    assert settings.cache.business_ttl < settings.cache.standard_ttl


def test_customers_vaults_are_named(tmp_path: Path) -> None:
    settings = loaded(tmp_path, MINIMAL + HELD + HELD.replace("acme", "other"))
    assert [section.name for section in settings.held] == ["acme", "other"]
    assert settings.held[0].approle.mount == "sealgate-approle"


def test_a_customers_vault_is_for_the_tenants_that_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tenants"):
        loaded(tmp_path, MINIMAL + HELD.replace("tenants = []\n", ""))
    named = HELD.replace("[]", f'["{"a" * 32}"]')
    assert loaded(tmp_path, MINIMAL + named).held[0].tenants == ("a" * 32,)


def test_flags_win_over_the_environment_which_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}LISTEN__PORT", "2")
    monkeypatch.setenv(f"{ENV_PREFIX}CACHE__CAPACITY", "7")
    path = tmp_path / "c.toml"
    path.write_text(MINIMAL + '[listen]\nport = 1\nhost = "::1"\n[cache]\nmax_ttl = 9\n')
    assert load(path).listen.port == 2
    settings = load(path, {"listen": {"port": 3}})
    assert (settings.listen.port, settings.listen.host) == (3, "::1")
    assert (settings.cache.capacity, settings.cache.max_ttl) == (7, 9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "root"),
        ("[listen", "c.toml: "),
        (MINIMAL + "typo = 1", "typo"),
        ("typo = 1\n" + MINIMAL, "typo"),
        (MINIMAL + "[listen]\nprot = 1", "prot"),
        (MINIMAL + "[listen]\nport = 70000", "port"),
        (MINIMAL + '[listen]\nhost = "0.0.0.0"', "loopback"),
        (MINIMAL + '[listen]\nhost = "192.0.2.1"', "loopback"),
        (MINIMAL + '[tls]\ncertificate = "c"\nprivate_key = "k"\nclient_ca = "a"', "tls"),
        (TLS, "policy_file"),
        (MINIMAL.replace('[development]\ntoken_file = "t"', ""), "tls and development"),
        (VAULT, "approle"),
        (VAULT.replace("https", "http") + APPROLE, "https"),
        (VAULT.replace("https://vault", "https://user:secret@vault") + APPROLE, "url"),
        (VAULT + APPROLE + '[root.local]\nkey_file = "k"\nrecords = "r"', "root"),
        ('log_level = "loud"\n' + MINIMAL, "log_level"),
        (MINIMAL + HELD + HELD, "one name"),
        (MINIMAL + HELD.replace("https", "http"), "https"),
        (MINIMAL + HELD.replace("https://vault", "https://user:secret@vault"), "held.0.url"),
        (MINIMAL + HELD.replace("https://vault:8200", "https://vault/secret"), "held.0.url"),
        (MINIMAL + HELD.replace("acme", "Acme Inc"), "held.0.name"),
        (
            MINIMAL + HELD.replace("[held.approle]", 'transit_key = "../x"\n[held.approle]'),
            "held.0.transit_key",
        ),
        (
            MINIMAL + HELD.replace("[held.approle]", 'transit_mount = "a/../b"\n[held.approle]'),
            "mount",
        ),
        (MINIMAL + HELD.replace("[held.approle]", 'certificate = "c"\n[held.approle]'), "together"),
        (MINIMAL + HELD.partition("[held.approle]")[0], "approle"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as refused:
        loaded(tmp_path, text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["LISTEN__PROT", "TYPO", "ROOT__LOCAL__KEYFILE", "listen__port"])
def test_unknown_variables_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "1")
    with pytest.raises(ConfigError, match=name):
        loaded(tmp_path, MINIMAL)


def test_known_variables_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", "elsewhere")
    monkeypatch.setenv(f"{ENV_PREFIX}ROOT__LOCAL__RECORDS", "other")
    monkeypatch.setenv(f"{ENV_PREFIX}CACHE", '{"capacity": 5}')
    settings = loaded(tmp_path, MINIMAL)
    assert settings.root.local is not None
    assert str(settings.root.local.records) == "other"
    assert settings.cache.capacity == 5


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such"):
        load(tmp_path / "none.toml")


def test_the_examples_load() -> None:
    settings = load(DEPLOY / "keyservice.example.toml")
    assert settings.tls is not None
    policy = load_policy(DEPLOY / "policy.example.toml")
    caller = Caller(("dns:gateway.sealgate.internal",))
    assert policy.allowing(caller, "a" * 32, Operation.UNWRAP).name == "gateways"
    assert policy.allowing(caller, "a" * 32, Operation.CREATE_TENANT).name == "new tenants"


def test_the_example_names_every_setting_with_its_default() -> None:
    """What is commented out loads too, and nothing that can be set is missing."""
    text = (DEPLOY / "keyservice.example.toml").read_text()
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [", "# ")) and _is_setting(line) else line
        for line in text.splitlines()
    )
    found = tomllib.loads(uncommented)
    assert _paths(found) == set(_known())


def _is_setting(line: str) -> bool:
    content = line.removeprefix("# ")
    name, equals, _ = content.partition(" = ")
    return content.startswith("[") or (bool(equals) and name.isidentifier())


def _paths(document: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, content in document.items():
        value = content[0] if isinstance(content, list) else content
        inner = _paths(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
        found |= inner
    return found


def _known() -> list[str]:
    known = [name.replace("__", ".") for name in names(Settings)]
    return [name for name in known if not any(other.startswith(name + ".") for other in known)]
