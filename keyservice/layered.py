"""Settings in layers: a TOML file, below the environment, below flags.

Guarantees that unknown settings are errors wherever they stand, and that no error shows a value. Environment
variables are a prefix and the name, with `__` between levels: `SEALGATE_LISTEN__PORT=8080`; a list is given
there as JSON. Knows no setting: each program has its own.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError


class ConfigError(ValueError):
    """The settings cannot be used; the message says which and why, without secrets."""


class Section(BaseModel):
    """A table of the settings: nothing unknown is in it, and nothing of it is shown in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Layered(BaseSettings):
    """The root of a program's settings, with an `env_prefix` of its own."""

    variables: ClassVar[bool] = True  # whether the environment counts
    model_config = SettingsConfigDict(
        env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's shape
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Say in which order the layers win."""
        file = TomlConfigSettingsSource(settings_cls)
        return (init_settings, env_settings, file) if cls.variables else (init_settings, file)


S = TypeVar("S", bound=Layered)


def load(
    model: type[S],
    path: Path | None,
    flags: Mapping[str, Any] | None = None,
    *,
    file_variable: str,
    others: tuple[str, ...] = (),
    environment: bool = True,
) -> S:
    """Return the settings of the file, the environment and the flags. Raises ConfigError.

    `file_variable` is the environment's name for the file, and `others` are the prefixes of variables that
    belong to somebody else. Without `environment` no variable counts.
    """
    prefix = model.model_config["env_prefix"]
    known = {file_variable, *(prefix + name.upper() for name in names(model))}
    ours = {n for n in os.environ if n.startswith(prefix) and not n.startswith(others)}
    if environment and (unknown := sorted(ours - known)):
        raise ConfigError(f"unknown environment variables: {', '.join(unknown)}")
    if path is not None and not path.is_file():
        raise ConfigError(f"no such configuration file: {path}")
    file = SettingsConfigDict(toml_file=path)
    layered: type[S] = type(
        model.__name__, (model,), {"model_config": file, "variables": environment}
    )
    try:
        return layered(**(flags or {}))
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("; ".join(faults)) from None
    except (SettingsError, ValueError) as error:
        raise ConfigError(f"{path or 'settings'}: {error}") from None


def names(model: type[BaseModel]) -> Iterator[str]:
    """Yield every setting, with `__` between levels."""
    for name, field in model.model_fields.items():
        yield name
        for section in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from (f"{name}__{inner}" for inner in names(section))
