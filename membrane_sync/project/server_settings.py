"""How the HTTP API knows who asks, and what it lets in: `[tool.membrane_sync.server]`.

Secrets come from the environment alone: `MEMBRANE_API_KEYS` and `MEMBRANE_WORKSPACE_SECRETS`,
several of each with commas between them, so that one can be replaced while the other still works.
`MEMBRANE_WORKSPACE_KEY`, `MEMBRANE_JWKS_URL`, `MEMBRANE_PUBLIC_KEYS`, `MEMBRANE_CORS_ORIGINS` and
`MEMBRANE_PRIVATE_HOSTS` win over the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from membrane_sync.errors import Problem, ProjectError

SHORTEST_SECRET = 32
"""Characters of an API key or a workspace secret, at least: nobody should be able to guess one."""


@dataclass(frozen=True)
class ServerSettings:
    """Who may ask the API, and how much; sizes are in bytes, times in seconds."""

    workspace_key: str = ""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    workspace_secrets: tuple[str, ...] = field(default=(), repr=False)
    public_keys: tuple[Path, ...] = ()
    jwks_url: str = ""
    longest_token: float = 86_400.0
    leeway: float = 30.0
    wrong_keys_per_minute: int = 60
    largest_request: int = 10_000_000
    largest_answer: int = 30_000_000
    cors_origins: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether there's anybody who could ask."""
        tokens = self.workspace_secrets or self.public_keys or self.jwks_url
        return bool(self.api_keys or tokens)


class ServerTable(BaseModel):
    """What `[tool.membrane_sync.server]` may say."""

    model_config = ConfigDict(strict=True, extra="forbid")

    workspace_key: str = ""
    public_keys: list[str] = Field(default_factory=list)
    jwks_url: str = ""
    longest_token_seconds: float = Field(default=86_400.0, gt=0)
    leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    wrong_keys_per_minute: int = Field(default=60, ge=1)
    largest_request_bytes: int = Field(default=10_000_000, ge=1_000)
    largest_answer_bytes: int = Field(default=30_000_000, ge=1_000)
    cors_origins: list[str] = Field(default_factory=list)
    private_hosts: list[str] = Field(default_factory=list)


def server_settings(root: Path, table: ServerTable, environ: Mapping[str, str]) -> ServerSettings:
    """The settings of the project at `root`; raises ProjectError where a value is of no use."""
    keys = _listed(environ, "MEMBRANE_PUBLIC_KEYS") or table.public_keys
    origins = _listed(environ, "MEMBRANE_CORS_ORIGINS") or table.cors_origins
    settings = ServerSettings(
        workspace_key=environ.get("MEMBRANE_WORKSPACE_KEY") or table.workspace_key,
        api_keys=tuple(_listed(environ, "MEMBRANE_API_KEYS")),
        workspace_secrets=tuple(_listed(environ, "MEMBRANE_WORKSPACE_SECRETS")),
        public_keys=tuple(root / key for key in keys),
        jwks_url=environ.get("MEMBRANE_JWKS_URL") or table.jwks_url,
        longest_token=table.longest_token_seconds,
        leeway=table.leeway_seconds,
        wrong_keys_per_minute=table.wrong_keys_per_minute,
        largest_request=table.largest_request_bytes,
        largest_answer=table.largest_answer_bytes,
        cors_origins=tuple(origins),
        private_hosts=tuple(_listed(environ, "MEMBRANE_PRIVATE_HOSTS") or table.private_hosts),
    )
    problems = [Problem(message) for message in _wrong(settings)]
    if problems:
        raise ProjectError(problems)
    return settings


def _wrong(settings: ServerSettings) -> list[str]:
    found: list[str] = []
    for name, secrets in (
        ("MEMBRANE_API_KEYS", settings.api_keys),
        ("MEMBRANE_WORKSPACE_SECRETS", settings.workspace_secrets),
    ):
        if any(len(secret) < SHORTEST_SECRET for secret in secrets):
            found.append(
                f"the environment variable {name} holds a secret of less than {SHORTEST_SECRET} "
                "characters; make one with: python -c 'import secrets; "
                "print(secrets.token_urlsafe(32))'"
            )
        if any("-----BEGIN" in secret or not secret.isascii() for secret in secrets):
            found.append(f"{name} holds a key in PEM, or other than plain characters")
    for_tokens = settings.workspace_secrets or settings.public_keys or settings.jwks_url
    if for_tokens and not settings.workspace_key:
        found.append(
            "tokens can't be checked without workspace_key (MEMBRANE_WORKSPACE_KEY): it's what "
            "their `iss` has to be"
        )
    if settings.jwks_url and not _is_safe(settings.jwks_url):
        found.append("jwks_url must be an https URL, or an http one of this machine")
    if "*" in settings.cors_origins:
        found.append("cors_origins must name the origins, as https://app.example.com; not *")
    return found


def _is_safe(url: str) -> bool:
    """What comes in the clear over a network could be anybody's keys."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))


def _listed(environ: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
