"""Authentication without OAuth 2: what goes out with a request, and what never gets out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from membrane_sync.clients.api import HttpApi
from membrane_sync.clients.authentication.access import authenticator
from membrane_sync.clients.authentication.way import Way
from membrane_sync.elements.connector import Connector
from membrane_sync.errors import Defunct, Fatal, MembraneError, NotAuthorized
from membrane_sync.ports import Authenticator, ConnectionRecord
from membrane_sync.records import Answer, Call
from membrane_sync.sync.rendering import render
from tests.certificates import Authority, pem, server_context
from tests.clients.oauth1_app import KEY, METHODS, SECRET, Consumer, OAuth1App
from tests.loopback import serving

LIST = Call("GET", "/contacts", {"b": "2", "a": "1 x"})


def sent(
    authentication: dict[str, Any],
    credentials: dict[str, Any],
    call: Call = LIST,
    functions: dict[str, Any] | None = None,
) -> httpx.Request:
    """The request that arrives at the app."""
    arrived: list[httpx.Request] = []

    def app(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200, json={})

    transport = httpx.MockTransport(app)
    api_of(authentication, credentials, transport=transport, functions=functions).send(call)
    return arrived[0]


def api_of(
    authentication: dict[str, Any],
    credentials: dict[str, Any],
    base_url: str = "https://app.test/v1",
    **more: Any,
) -> HttpApi:
    connector = Connector.model_validate(
        {"key": "app", "base_url": base_url, "authentication": authentication}
    )
    record = ConnectionRecord("acme", "app", "acme", credentials=credentials)
    parameters = {"app_id": "7", "consumer_key": KEY, "consumer_secret": SECRET}
    return HttpApi(connector, record, parameters, sleep=lambda _: None, **more)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


# --- keys, headers, functions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "header", "value"),
    [
        ({"location": "basic"}, "Authorization", basic("k:")),
        ({"parameter": "X-Key", "prefix": "Key "}, "X-Key", "Key k"),
        ({"location": "cookie", "parameter": "sid"}, "Cookie", "sid=k"),
        (
            {
                "token": {
                    "$concat": [{"$var": "$.parameters.app_id"}, ":", {"$var": "$.credentials.key"}]
                }
            },
            "Authorization",
            "7:k",
        ),
    ],
)
def test_api_keys(declared: dict[str, Any], header: str, value: str) -> None:
    key = {"type": "api_key", "token": {"$var": "$.credentials.key"}, **declared}
    assert sent(key, {"key": "k"}).headers[header] == value


def test_tokens_of_oauth_and_of_sessions() -> None:
    assert sent({"type": "oauth2", "oauth2": {}}, {"access_token": "a"}).headers[
        "Authorization"
    ] == ("Bearer a")
    session = {"login": {"path": "/login"}, "token": {"$var": "$.body.t"}}
    bare = {"type": "session", "session": session, "prefix": ""}
    assert sent(bare, {"token": "s"}).headers["Authorization"] == "s"
    shop = {"type": "oauth2", "oauth2": {}, "parameter": "X-Shop-Token"}
    assert sent(shop, {"access_token": "a"}).headers["X-Shop-Token"] == "a"


def test_what_client_adds() -> None:
    declared = {
        "type": "bearer",
        "token": {"$var": "$.credentials.token"},
        "makeApiClient": {
            "headers": {"X-Site": {"$var": "$.credentials.site"}, "X-None": {"$var": "$.no"}},
            "query": {"v": {"$var": "$.parameters.app_id"}},
        },
    }
    request = sent(declared, {"token": "t", "site": "eu"})
    assert request.headers["X-Site"] == "eu"
    assert "X-None" not in request.headers
    assert request.url.params["v"] == "7"
    assert request.headers["Authorization"] == "Bearer t"


def test_what_a_function_adds() -> None:
    def client(scope: dict[str, Any]) -> dict[str, Any]:
        user = scope["credentials"]["user"]
        return {"headers": {"X-User": user}, "auth": {"username": user, "password": "p"}}

    declared = {"type": "none", "functions": {"client": "client"}}
    request = sent(declared, {"user": "ada"}, functions={"client": client})
    assert request.headers["X-User"] == "ada"
    assert request.headers["Authorization"] == basic("ada:p")


def test_a_header_that_cannot_be_sent() -> None:
    declared = {"type": "none", "client": {"headers": {"X-Key": {"$var": "$.credentials.key"}}}}
    with pytest.raises(NotAuthorized, match="a character that a header can't hold") as caught:
        sent(declared, {"key": "planted\nsecret"})
    assert "planted" not in str(caught.value)


# --- proofs of our own ---------------------------------------------------------------------------


def test_hmac_over_the_request() -> None:
    declared = {
        "type": "hmac",
        "signing": {
            "key": {"$var": "$.credentials.secret"},
            "key_encoding": "base64",
            "algorithm": "sha512",
            "encoding": "base64",
            "message": {
                "$concat": {
                    "values": [
                        {"$var": f"$.{name}"}
                        for name in (
                            "timestamp",
                            "nonce",
                            "request.method",
                            "request.path",
                            "request.query",
                            "request.body",
                        )
                    ],
                    "delimiter": "|",
                }
            },
            "headers": {
                "X-Key": {"$var": "$.credentials.key"},
                "X-Time": {"$var": "$.timestamp"},
                "X-Nonce": {"$var": "$.nonce"},
                "X-Sign": {"$var": "$.signature"},
            },
        },
    }
    secret = base64.b64encode(b"planted-secret").decode()
    call = Call("POST", "/orders", {"b": "2 x"}, body={"name": "Åsa"})
    request = sent(declared, {"secret": secret, "key": "k"}, call)
    parts = [request.headers["X-Time"], request.headers["X-Nonce"], "POST", "/v1/orders"]
    query = request.url.query.decode()
    assert query.startswith("b=2")
    message = "|".join([*parts, query, request.content.decode()])
    digest = hmac.new(b"planted-secret", message.encode(), hashlib.sha512).digest()
    assert request.headers["X-Sign"] == base64.b64encode(digest).decode()
    assert request.headers["X-Key"] == "k"
    assert json.loads(request.content) == {"name": "Åsa"}


def test_hmac_in_one_header_or_in_the_query() -> None:
    signing = {"key": {"$var": "$.credentials.secret"}, "message": {"$var": "$.request.body_hash"}}
    digest = hmac.new(b"s3cret", hashlib.sha256(b"").hexdigest().encode(), "sha256").hexdigest()
    header = {"type": "hmac", "signing": signing, "parameter": "X-Sign", "prefix": "sha256="}
    assert sent(header, {"secret": "s3cret"}).headers["X-Sign"] == f"sha256={digest}"
    query = {"type": "hmac", "signing": {**signing, "query": {"sign": {"$var": "$.signature"}}}}
    assert sent(query, {"secret": "s3cret"}).url.params["sign"] == digest


def test_a_key_that_is_not_in_its_encoding() -> None:
    signing = {"key": {"$var": "$.credentials.secret"}, "key_encoding": "hex", "message": "m"}
    with pytest.raises(NotAuthorized, match="is no hex") as caught:
        sent({"type": "hmac", "signing": signing}, {"secret": "planted-secret"})
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_a_jwt_of_our_own(algorithm: str) -> None:
    key: OctKey | RSAKey
    if algorithm == "HS256":
        key = OctKey.import_key("planted-secret-of-32-characters!")
        secret = "planted-secret-of-32-characters!"
    else:
        key = RSAKey.generate_key(2048)
        secret = key.as_pem(private=True).decode()
    declared = {
        "type": "jwt",
        "jwt": {
            "key": {"$var": "$.credentials.secret"},
            "key_id": {"$var": "$.credentials.id"},
            "algorithm": algorithm,
            "issuer": {"$var": "$.credentials.id"},
            "audience": "/admin/",
            "lifetime_seconds": 60,
        },
        "prefix": "Ghost ",
    }
    request = sent(declared, {"secret": secret, "id": "k1"})
    scheme, _, token = request.headers["Authorization"].partition(" ")
    decoded = jwt.decode(token, key, algorithms=[algorithm])
    assert scheme == "Ghost"
    assert decoded.header["kid"] == "k1"
    assert (decoded.claims["iss"], decoded.claims["aud"]) == ("k1", "/admin/")
    assert decoded.claims["exp"] - decoded.claims["iat"] == 60
    assert abs(decoded.claims["iat"] - datetime.now(UTC).timestamp()) < 30


@pytest.mark.parametrize("secret", ["planted-no-pem", '{"kty": "planted"}', "{planted"])
def test_a_key_that_cannot_sign(secret: str) -> None:
    declared = {"type": "jwt", "jwt": {"key": {"$var": "$.credentials.key"}}}
    with pytest.raises(NotAuthorized, match="can't sign with RS256") as caught:
        sent(declared, {"key": secret})
    assert "planted" not in str(caught.value)


def test_a_public_key_cannot_sign() -> None:
    public = RSAKey.generate_key(2048).as_pem(private=False).decode()
    declared = {"type": "jwt", "jwt": {"key": {"$var": "$.credentials.key"}}}
    with pytest.raises(NotAuthorized, match="can't sign with RS256"):
        sent(declared, {"key": public})


# --- OAuth 1 -------------------------------------------------------------------------------------


OAUTH1 = {
    "request_token_url": "https://app.test/request",
    "authorize_url": "https://app.test/allow?lang=en",
    "access_token_url": "https://app.test/access",
}


@pytest.mark.parametrize("method", METHODS)
def test_oauth1(method: str) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    app = OAuth1App(Consumer(public.decode()))
    app.learn_sha256()
    secret = pem(private) if method == "RSA-SHA1" else SECRET
    authentication = {"type": "oauth1", "oauth1": {**OAUTH1, "signature_method": method}}
    ours = oauth1(app, authentication, secret)
    begun = ours.begin("https://us.test/back?x=1", "state-1")
    assert begun.url.startswith("https://app.test/allow?lang=en&oauth_token=temporary-0")
    assert "planted" not in begun.url + repr(begun)
    back = app.allow(begun.url)
    assert (back["state"], back["x"]) == ("state-1", "1")
    issued = ours.finish(back, "https://us.test/back?x=1", begun.kept)
    assert issued.credentials == {
        "oauth_token": "final",
        "oauth_token_secret": "planted-token-secret",
    }
    connector = {"app_id": "7", "consumer_key": KEY, "consumer_secret": secret}
    declared = Connector.model_validate(
        {"key": "app", "base_url": "https://app.test/api", "authentication": authentication}
    )
    record = ConnectionRecord("acme", "app", "acme", credentials=issued.credentials)
    api = HttpApi(declared, record, connector, transport=httpx.MockTransport(app))
    assert api.send(Call("GET", "/contacts", {"q": "a b&ü"})).body == {"ok": True}
    assert api.send(Call("POST", "/contacts", body={"name": "Åsa"})).body == {"ok": True}
    assert json.loads(app.bodies[1]) == {"name": "Åsa"}


def oauth1(app: OAuth1App, authentication: dict[str, Any], secret: str = SECRET) -> Authenticator:
    connector = Connector.model_validate(
        {"key": "app", "base_url": "https://app.test/api", "authentication": authentication}
    )
    parameters = {"consumer_key": KEY, "consumer_secret": secret}
    transport = httpx.MockTransport(app)
    return authenticator(Way(connector, never, render, parameters=parameters, transport=transport))


def never(call: Call, credentials: Any, signed: bool) -> Answer:
    raise AssertionError("nobody is asked")


def test_oauth1_refusals() -> None:
    app = OAuth1App()
    authentication = {"type": "oauth1", "oauth1": OAUTH1}
    with pytest.raises(NotAuthorized, match="refused") as caught:
        oauth1(app, authentication, "planted-wrong-secret").begin("https://us.test/back", "s")
    assert "planted" not in str(caught.value)
    ours = oauth1(app, authentication)
    begun = ours.begin("https://us.test/back", "s")
    for answer in ({"denied": "temporary-0"}, {"oauth_token": "other", "oauth_verifier": "v"}):
        with pytest.raises(NotAuthorized, match="did not allow"):
            ours.finish(answer, "https://us.test/back", begun.kept)
    back = {**app.allow(begun.url), "oauth_verifier": "wrong"}
    with pytest.raises(NotAuthorized):
        ours.finish(back, "https://us.test/back", begun.kept)
    assert not ours.refreshable
    with pytest.raises(Defunct):
        ours.refresh({"oauth_token": "final"})


def test_oauth1_never_goes_without_tls() -> None:
    plain = {"type": "oauth1", "oauth1": {**OAUTH1, "request_token_url": "http://app.test/r"}}
    with pytest.raises(Fatal, match="for https:// alone"):
        oauth1(OAuth1App(), plain).begin("https://us.test/back", "s")
    signed = {"type": "oauth1", "oauth1": OAUTH1}
    api = api_of(
        signed, {"oauth_token": "t"}, "http://app.test", transport=httpx.MockTransport(OAuth1App())
    )
    with pytest.raises(Fatal, match="for https:// alone"):
        api.send(LIST)


# --- mutual TLS ----------------------------------------------------------------------------------


class _Names(BaseHTTPRequestHandler):
    """Answers with the name in the client's certificate."""

    def do_GET(self) -> None:
        self._answer({"client": self._name()})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"access_token": f"token of {self._name()}", "expires_in": 60})

    def _name(self) -> str:
        peer = self.connection.getpeercert()  # type: ignore[attr-defined]
        return str(dict(item[0] for item in peer["subject"])["commonName"])

    def _answer(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def tls_server(authority: Authority, folder: Path) -> Iterator[str]:
    """A server that takes no client without a certificate of this authority."""
    context = server_context(authority, folder)
    context.load_verify_locations(cadata=authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with serving(_Names, tls=context) as address:
        yield address


CERTIFICATE = {
    "type": "mutual_tls",
    "certificate": {
        "certificate": {"$var": "$.credentials.certificate"},
        "private_key": {"$var": "$.credentials.key"},
        "passphrase": {"$var": "$.credentials.passphrase"},
        "authority": {"$var": "$.parameters.authority"},
    },
}


def mutual(url: str, credentials: dict[str, Any], authority: Authority, **more: Any) -> HttpApi:
    connector = Connector.model_validate(
        {"key": "app", "base_url": url, "authentication": {**CERTIFICATE, **more}}
    )
    record = ConnectionRecord("acme", "app", "acme", credentials=credentials)
    return HttpApi(connector, record, {"authority": authority.pem}, longest_wait=0.0)


@pytest.mark.parametrize("passphrase", ["", "planted-passphrase"])
def test_mutual_tls(passphrase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    authority = Authority()
    key = ec.generate_private_key(ec.SECP256R1())
    credentials = {
        "certificate": authority.issue("acme", key),
        "key": pem(key, passphrase.encode()),
        "passphrase": passphrase,
    }
    with tls_server(authority, tmp_path) as url:
        api = mutual(url, credentials, authority)
        assert api.send(Call("GET", "/me")).body == {"client": "acme"}
        api.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_key_is_never_on_disk_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, key, written = Authority(), ec.generate_private_key(ec.SECP256R1()), []
    loading = ssl.SSLContext.load_cert_chain

    def watched(context: ssl.SSLContext, chain: Path, **options: Any) -> None:
        written.append(Path(chain).read_text())
        assert Path(chain).parent.stat().st_mode & 0o077 == 0
        loading(context, chain, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    credentials = {"certificate": authority.issue("acme", key), "key": pem(key)}
    mutual("https://127.0.0.1:1", credentials, authority).close()
    assert "BEGIN ENCRYPTED PRIVATE KEY" in written[0]
    assert pem(key).splitlines()[1] not in written[0]


def test_a_server_that_wants_another_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    key = ec.generate_private_key(ec.SECP256R1())
    credentials = {"certificate": stranger.issue("acme", key), "key": pem(key)}
    with tls_server(authority, tmp_path) as url:
        api = mutual(url, credentials, authority)
        with pytest.raises(MembraneError) as caught:
            api.send(Call("GET", "/me"))
        api.close()
    assert pem(key).splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("certificate", "planted"), ("key", "planted"), ("key", "")]
)
def test_certificates_that_cannot_be_used(name: str, value: str) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    credentials = {"certificate": authority.issue("acme", key), "key": pem(key), name: value}
    with pytest.raises(NotAuthorized, match="credentials give no|can't be used") as caught:
        mutual("https://127.0.0.1:1", credentials, authority)
    assert "planted" not in str(caught.value)


def test_the_token_endpoint_sees_the_certificate_too(tmp_path: Path) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    credentials = {"certificate": authority.issue("acme", key), "key": pem(key)}
    with tls_server(authority, tmp_path) as url:
        declared = {
            **CERTIFICATE,
            "type": "client_credentials",
            "oauth2": {"token_url": f"{url}/token", "client_id": "ours"},
        }
        connector = Connector.model_validate(
            {"key": "app", "base_url": url, "authentication": declared}
        )
        parameters = {"authority": authority.pem}
        ours = authenticator(Way(connector, never, render, parameters=parameters))
        issued = ours.issue(credentials)
    assert issued.credentials["access_token"] == "token of acme"
    assert issued.expires_in == 60
