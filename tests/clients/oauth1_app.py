"""An app with OAuth 1, whose signatures Authlib's own server checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
from authlib.oauth1.errors import OAuth1Error
from authlib.oauth1.rfc5849.authorization_server import AuthorizationServer
from authlib.oauth1.rfc5849.base_server import BaseServer
from authlib.oauth1.rfc5849.models import TemporaryCredential, TokenCredentialMixin
from authlib.oauth1.rfc5849.resource_protector import ResourceProtector
from authlib.oauth1.rfc5849.signature import generate_signature_base_string
from authlib.oauth1.rfc5849.wrapper import OAuth1Request

from tests.loopback import Quiet, serving

KEY, SECRET = "consumer-key", "planted-consumer-secret"
METHODS = ["HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1", "PLAINTEXT"]


@dataclass
class Consumer:
    """Who may ask for tokens."""

    public_key: str = ""

    def get_client_secret(self) -> str:
        return SECRET

    def get_rsa_public_key(self) -> str:
        return self.public_key

    def get_default_redirect_uri(self) -> str:
        return ""


class Token(dict[str, str], TokenCredentialMixin):
    """What a user has allowed."""

    def get_oauth_token(self) -> str:
        return self["oauth_token"]

    def get_oauth_token_secret(self) -> str:
        return self["oauth_token_secret"]


@dataclass
class OAuth1App:
    """`/request`, `/access`, the user at `/allow`, and below `/api` the app itself.

    It's the handler of a mock transport, or answers at a real address of this machine by `served`.
    """

    consumer: Consumer = field(default_factory=Consumer)
    temporary: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        seen = OAuth1Request(
            request.method,
            str(request.url),
            None,
            {"Authorization": request.headers.get("Authorization", "")},
        )
        server = _Server(self)
        if request.url.path == "/allow":
            return self._decided(str(request.url), says_no=request.url.params.get("say") == "no")
        if request.url.path == "/request":
            return server.create_temporary_credentials_response(seen)
        if request.url.path == "/access":
            return server.create_token_response(seen)
        try:
            _Protector(self).validate_request(seen.method, seen.uri, None, seen.headers)
        except OAuth1Error as error:
            return httpx.Response(error.status_code, json={"message": error.error})
        self.bodies.append(request.content)
        return httpx.Response(200, json={"ok": True})

    @contextmanager
    def served(self, tls: ssl.SSLContext) -> Iterator[str]:
        """The app at an address of this machine."""
        app = self

        class Handler(Quiet):
            def do_GET(self) -> None:  # noqa: N802
                self.answer()

            def do_POST(self) -> None:  # noqa: N802
                self.answer()

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                address = f"https://{self.headers['Host']}{self.path}"
                headers = dict(self.headers.items())
                found = app(httpx.Request(self.command, address, headers=headers, content=content))
                self.send_response(found.status_code)
                for name in ("Content-Type", "Location"):
                    if name in found.headers:
                        self.send_header(name, found.headers[name])
                self.send_header("Content-Length", str(len(found.content)))
                self.end_headers()
                self.wfile.write(found.content)

        with serving(Handler, tls=tls) as address:
            yield address

    def _decided(self, url: str, *, says_no: bool) -> httpx.Response:
        """Sends the user back, as one who has allowed it, or hasn't."""
        token = dict(parse_qsl(urlsplit(url).query))["oauth_token"]
        answer: dict[str, str] = {"denied": token} if says_no else self.allow(url)
        back = httpx.URL(str(self.temporary[token].get_redirect_uri()))
        return httpx.Response(302, headers={"Location": str(back.copy_merge_params(answer))})

    @staticmethod
    def learn_sha256() -> None:
        """Let Authlib's server check HMAC-SHA256, which it doesn't know by itself."""

        def verify(request: OAuth1Request) -> bool:
            secret = request.credential.get_oauth_token_secret() if request.credential else ""
            key = f"{quote(SECRET)}&{quote(secret)}".encode()
            text = generate_signature_base_string(request).encode()
            digest = hmac.new(key, text, hashlib.sha256).digest()
            return bool(base64.b64encode(digest).decode() == request.signature)

        BaseServer.register_signature_method("HMAC-SHA256", verify)

    def allow(self, url: str) -> dict[str, str]:
        """What the callback gets once the user has allowed it."""
        token = self.temporary[dict(parse_qsl(urlsplit(url).query))["oauth_token"]]
        token["oauth_verifier"] = "verified"
        back = str(token.get_redirect_uri())
        return {
            **dict(parse_qsl(urlsplit(back).query)),
            "oauth_token": token["oauth_token"],
            "oauth_verifier": "verified",
        }


class _Knowing:
    SUPPORTED_SIGNATURE_METHODS = METHODS

    def __init__(self, app: OAuth1App) -> None:
        self.app = app

    def get_client_by_id(self, client_id: str) -> Consumer | None:
        return self.app.consumer if client_id == KEY else None

    def exists_nonce(self, nonce: str, _: OAuth1Request) -> bool:
        seen = nonce in self.app.nonces
        self.app.nonces.add(nonce)
        return seen


class _Protector(_Knowing, ResourceProtector):  # type: ignore[misc]
    def get_token_credential(self, request: OAuth1Request) -> Token | None:
        return self.app.tokens.get(request.token)


class _Server(_Knowing, AuthorizationServer):  # type: ignore[misc]
    def create_oauth1_request(self, request: OAuth1Request) -> OAuth1Request:
        return request

    def handle_response(self, status: int, payload: Any, headers: Any) -> httpx.Response:
        return httpx.Response(status, text=urlencode(payload), headers=headers)

    def create_temporary_credential(self, request: OAuth1Request) -> TemporaryCredential:
        name = f"temporary-{len(self.app.temporary)}"
        token = TemporaryCredential(
            oauth_token=name,
            oauth_token_secret="planted-temporary-secret",
            client_id=request.client_id,
            redirect_uri=request.redirect_uri,
            oauth_callback=request.redirect_uri,
        )
        self.app.temporary[name] = token
        return token

    def get_temporary_credential(self, request: OAuth1Request) -> Any:
        return self.app.temporary.get(request.token)

    def delete_temporary_credential(self, request: OAuth1Request) -> None:
        self.app.temporary.pop(request.token, None)

    def create_token_credential(self, _: OAuth1Request) -> Token:
        made = Token(oauth_token="final", oauth_token_secret="planted-token-secret")
        self.app.tokens["final"] = made
        return made
