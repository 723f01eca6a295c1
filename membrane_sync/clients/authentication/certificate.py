"""Mutual TLS: a client certificate out of the credentials."""

from __future__ import annotations

import secrets
import ssl
import tempfile
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from membrane_sync.clients.authentication.values import Scope, credential, text
from membrane_sync.clients.transport import tls
from membrane_sync.elements.authentication import AuthenticationOption, Certificate
from membrane_sync.errors import NotAuthorized


def tls_of(authentication: AuthenticationOption, scope: Scope) -> ssl.SSLContext:
    """How to make TLS connections: with the client certificate, if one is declared."""
    declared = authentication.certificate
    return tls() if declared is None else _with_certificate(declared, scope)


def _with_certificate(declared: Certificate, scope: Scope) -> ssl.SSLContext:
    certificate = credential(declared.certificate, scope, "certificate")
    passphrase = text(declared.passphrase, scope, "certificate.passphrase")
    authority = text(declared.authority, scope, "certificate.authority")
    key = credential(declared.private_key, scope, "private key")
    try:
        context = (
            ssl.create_default_context(cadata=authority)
            if authority
            else httpx.create_ssl_context()
        )
        _load(context, certificate, _sealed(key, passphrase))
    except (ValueError, TypeError, ssl.SSLError):
        raise NotAuthorized(
            "the connection's client certificate and private key can't be used together",
            hint="connect again with both as PEM, line breaks included, and the key's passphrase",
        ) from None
    return context


def _sealed(key: str, passphrase: str) -> tuple[bytes, str]:
    """The key under a password that only this process knows."""
    loaded = load_pem_private_key(key.encode(), passphrase.encode() or None)
    password = secrets.token_urlsafe(32)
    encryption = BestAvailableEncryption(password.encode())
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), password


def _load(context: ssl.SSLContext, certificate: str, sealed: tuple[bytes, str]) -> None:
    """Python reads them from files alone: they're there for that moment, the key encrypted."""
    key, password = sealed
    with tempfile.TemporaryDirectory(prefix="membrane-tls-") as folder:
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(certificate.encode() + b"\n" + key)
        context.load_cert_chain(chain, password=password)
