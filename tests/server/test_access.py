"""Nobody gets at what isn't theirs: all routes of the OpenAPI document are walked as others.

A route that is new is walked, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tests.server.conftest import Api, open_api
from tests.server.helpers import (
    API_KEY,
    OLD_KEY,
    OLD_SECRET,
    SECRET,
    Caller,
    EchoApp,
    by_hand,
    claims,
    serving,
    token,
)

PUBLIC = {"/health", "/webhooks/{key}", "/global-webhooks/{app}/{key}"}
"""Routes that are open to everybody: none shows anything; webhooks prove whom they are from."""

Operation = tuple[str, str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    """Private keys of all kinds; the API knows their public halves by a JWKS."""
    return {
        "RS256": RSAKey.generate_key(2048, {"kid": "rsa", "alg": "RS256"}),
        "PS256": RSAKey.generate_key(2048, {"kid": "pss", "alg": "PS256"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
        "ES384": ECKey.generate_key("P-384", {"kid": "ec384"}),
        "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
    }


@pytest.fixture(scope="module")
def pem_key() -> RSAKey:
    return RSAKey.generate_key(2048)


class Jwks:
    """A provider of public keys that counts how often it's asked."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self.listed = [key.as_dict(private=False) for key in keys.values()]
        # Not everything that such a document may hold is a public key.
        self.listed += [
            {"kty": "oct", "k": "c2VjcmV0LXRoYXQtaXMtcHVibGljLWJ5LW1pc3Rha2U", "kid": "o"}
        ]
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.asked += 1
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(
            {"type": "http.response.body", "body": json.dumps({"keys": self.listed}).encode()}
        )


@pytest.fixture(scope="module")
def jwks(keys: dict[str, Any]) -> Jwks:
    return Jwks(keys)


@pytest.fixture(scope="module")
def api(
    tmp_path_factory: pytest.TempPathFactory, echo: EchoApp, jwks: Jwks, pem_key: RSAKey
) -> Iterator[Api]:
    root = tmp_path_factory.mktemp("access")
    (root / "public.pem").write_bytes(pem_key.as_pem(private=False))
    with (
        serving(jwks) as url,
        open_api(
            root,
            echo,
            server="wrong_keys_per_minute = 1000000\n",
            MEMBRANE_JWKS_URL=f"{url}/keys",
            MEMBRANE_PUBLIC_KEYS="public.pem",
        ) as opened,
    ):
        yield opened


def operations(api: Api) -> list[Operation]:
    """Method, path and description of each operation."""
    paths = api.nobody()("GET", "/openapi.json").json()["paths"]
    return [
        (method.upper(), path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


def closed(api: Api) -> list[Operation]:
    return [found for found in operations(api) if found[1] not in PUBLIC]


def body_of(api: Api, operation: Mapping[str, Any]) -> Any:
    """The least that the operation takes as its body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    return sample(content["schema"], api.nobody()("GET", "/openapi.json").json())


def sample(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """A value of a schema with no more in it than it must have."""
    if "$ref" in schema:
        return sample(
            document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document
        )
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], document)
    if schema.get("type") == "object":
        needed = schema.get("required", [])
        return {name: sample(schema["properties"][name], document) for name in needed}
    values = {"string": "echo", "integer": 1, "number": 1, "boolean": True, "array": []}
    return schema.get("enum", [values.get(schema.get("type", "string"))])[0]


def filled(path: str, connection: str, request: str = "") -> str:
    """The path with a connection's key or a request's id, and with what is there for everybody."""
    named = {"connection": connection, "integration": "echo", "tenant": "acme"}
    named["request"] = request or connection
    named |= {"event": "1", "webhook": "1", "type": "order_paid"}
    for name, value in named.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{path}", "me").replace("{path:path}", "me")


def said(answer: Any) -> tuple[int, Any]:
    """An answer without what differs in each request."""
    body = answer.json() if answer.content else None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body["error"].pop("request_id", None)
    return answer.status_code, body


def stored(api: Api) -> dict[str, list[Any]]:
    """All rows of the ledger about connections and tenants."""
    engine = sa.create_engine(api.runtime.settings.ledger_url)
    with engine.begin() as transaction:
        tables = {
            name: [tuple(row) for row in transaction.execute(sa.text(f"SELECT * FROM {name}"))]
            for name in ("membrane_connections", "membrane_tenants", "membrane_overrides")
        }
    engine.dispose()
    return tables


def test_only_what_is_named_here_is_public(api: Api) -> None:
    for method, path, operation in operations(api):
        assert bool(operation.get("security")) == (path not in PUBLIC), f"{method} {path}"


def test_another_tenant_hears_the_same_as_of_what_is_not_there(api: Api) -> None:
    key, other = api.connect("acme"), api.tenant("other")
    asked = api.tenant("acme")("POST", "/connection-requests", {"integration": "echo"}).json()["id"]
    other("GET", "/me")
    before = stored(api)
    walked = 0
    for method, path, operation in closed(api):
        body = body_of(api, operation)
        yours = other(method, filled(path, key, asked), body)
        nowhere = other(method, filled(path, "not_there"), body)
        assert key not in yours.text.replace(f"no connection '{key}'", ""), f"{method} {path}"
        status, words = said(yours)
        if "{connection}" in path or "{request}" in path:
            walked += 1
            assert status == 404, f"{method} {path}: {yours.text}"
            missing = said(nowhere)[1]["error"]
            there = key if "{connection}" in path else asked
            missing["message"] = missing["message"].replace("not_there", there)
            assert (words["error"], nowhere.status_code) == (missing, 404), f"{method} {path}"
        elif "{tenant}" in path or path == "/tenants":
            assert status == 403, f"{method} {path}"
            assert said(nowhere) == said(yours)
        else:
            assert status < 500, f"{method} {path}: {yours.text}"
    assert walked >= 12
    assert stored(api) == before
    seen = api.tenant("acme")("GET", f"/connection-requests/{asked}").json()
    assert seen["status"] == "pending"


def test_it_takes_about_as_long(api: Api) -> None:
    key, other = api.connect("acme"), api.tenant("other")

    def seconds(name: str) -> float:
        began = time.perf_counter()
        other("GET", f"/connections/{name}")
        return time.perf_counter() - began

    pairs = [(seconds(key), seconds("not_there_at_all")) for _ in range(60)]
    yours, nowhere = (median(side) for side in zip(*pairs, strict=True))
    assert abs(yours - nowhere) < max(0.003, 0.5 * nowhere)


def test_the_owner_and_the_backend_get_at_it(api: Api) -> None:
    key = api.connect("acme")
    callers = [api.tenant(), api.workspace(), api.workspace("acme"), Caller(api.url, OLD_KEY)]
    for caller in callers:
        assert caller("GET", f"/connections/{key}").status_code == 200
    assert api.workspace("other")("GET", f"/connections/{key}").status_code == 404


def test_lists_have_ones_own_alone(api: Api) -> None:
    mine, theirs = api.connect("list_a"), api.connect("list_b")
    for caller in (api.tenant("list_a"), api.workspace("list_a")):
        text = caller("GET", "/connections?limit=200").text
        assert mine in text and theirs not in text
    text = api.workspace()("GET", "/connections?limit=200").text
    assert mine in text and theirs in text


def refused_tokens(pem_key: RSAKey, keys: Mapping[str, Any]) -> dict[str, str]:
    """Credentials that are no good, by what is wrong with them."""
    now = int(time.time())
    public = pem_key.as_pem(private=False)
    der = rsa_der(pem_key)
    good, ours, secret = {"alg": "HS256", "typ": "JWT"}, claims(), SECRET.encode()
    parts = token().split(".")
    forged = OctKey.import_key("another-secret-" + "x" * 32)
    jwk_secret = json.dumps(keys["ES256"].as_dict(private=False)).encode()
    return {
        "nothing": "",
        "no token": "abc",
        "a wrong API key": "api-key-" + "j" * 32,
        "half an API key": API_KEY[:-1],
        "the workspace secret": SECRET,
        "forged": token(key=forged),
        "a changed tenant": ".".join([parts[0], token("other").split(".")[1], parts[2]]),
        "expired": token(exp=now - 3600),
        "missing exp": by_hand(good, {k: v for k, v in ours.items() if k != "exp"}, secret),
        "exp as text": by_hand(good, {**ours, "exp": str(now + 60)}, secret),
        "exp as true": by_hand(good, {**ours, "exp": True}, secret),
        "exp as NaN": by_hand(good, {**ours, "exp": float("nan")}, secret),
        "exp for ever": token(exp=now + 10**9),
        "exp beyond all": token(exp=10**400),
        "not yet": token(nbf=now + 3600),
        "from the future": token(iat=now + 3600),
        "wrong issuer": token(iss="ws-other"),
        "no issuer": by_hand(good, {k: v for k, v in ours.items() if k != "iss"}, secret),
        "two issuers": token(workspaceKey="ws-other"),
        "for others": token(aud="somebody-else"),
        "no tenant": token(None),
        "an empty tenant": token(""),
        "no tenant but an admin": by_hand(
            good, {**ours, "tenantKey": None, "isAdmin": True}, secret
        ),
        "tenant 7": token(7),  # type: ignore[arg-type]
        "tenant with a NUL": token("acme\0"),
        "not quite an admin": token(None, isAdmin="true"),
        "alg:none": by_hand({"alg": "none"}, ours, None),
        "alg:None": by_hand({"alg": "None"}, ours, None),
        "alg:none, signed": by_hand({"alg": "none"}, ours, secret),
        "no signature": ".".join([*parts[:2], ""]),
        "no alg": by_hand({"typ": "JWT"}, ours, secret),
        "alg as a list": by_hand({"alg": ["HS256"]}, ours, secret),
        "HS512 of the secret": token(algorithm="HS512"),
        "HS256 of the public PEM": by_hand(good, ours, public),
        "HS256 of the PEM, stripped": by_hand(good, ours, public.strip()),
        "HS256 of the public DER": by_hand(good, ours, der),
        "HS256 of a public JWK": by_hand({**good, "kid": "ec"}, ours, jwk_secret),
        "HS256 of a JWKS's own secret": by_hand(
            {**good, "kid": "o"}, ours, b"secret-that-is-public-by-mistake"
        ),
        "RS256 by another key": token(key=RSAKey.generate_key(2048), algorithm="RS256"),
        "PS256 by a key for RS256": token(key=pem_key, algorithm="PS256"),
        "RS512 by a key for RS256": token(key=without_alg(keys["RS256"]), algorithm="RS512"),
        "another's kid": token(key=keys["RS256"], algorithm="RS256", header={"kid": "pss"}),
        "a key in the header": token(
            key=forged, header={"jwk": {"kty": "oct", "k": "YW5vdGhlcg"}, "kid": "x"}
        ),
        "an unknown crit": by_hand({**good, "crit": ["b64"], "b64": False}, ours, secret),
        "five parts": token() + ".a.b",
        "too long": token(fields={"x": "y" * 20_000}),
        "a bomb": "W" * 4_000 + ".e30.",
    }


def without_alg(key: RSAKey) -> RSAKey:
    """The same key, for any algorithm."""
    return RSAKey.import_key(key.as_pem(private=True))


def rsa_der(key: RSAKey) -> bytes:
    public = key.public_key
    assert isinstance(public, rsa.RSAPublicKey)
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_whoever_cannot_say_who_they_are_gets_nothing(
    api: Api, pem_key: RSAKey, keys: dict[str, Any]
) -> None:
    key = api.connect("acme")
    before, walk = stored(api), closed(api)
    bodies = {id(operation): body_of(api, operation) for _, _, operation in walk}
    for why, credential in refused_tokens(pem_key, keys).items():
        caller = Caller(api.url, credential)
        for method, path, operation in walk:
            body = bodies[id(operation)]
            yours = caller(method, filled(path, key), body)
            nowhere = caller(method, filled(path, "not_there"), body)
            where = f"{why}: {method} {path}: {yours.text}"
            assert (yours.status_code, said(yours)) == (401, said(nowhere)), where
            assert yours.headers["WWW-Authenticate"] == "Bearer"
            assert yours.json()["error"]["code"] == "not_authenticated"
    assert stored(api) == before


@pytest.mark.parametrize("scheme", ["Basic", "bearer", "Token", "BearerBearer"])
def test_only_bearer_is_a_scheme(scheme: str, api: Api) -> None:
    answer = api.nobody().client.get("/me", headers={"Authorization": f"{scheme} {API_KEY}"})
    assert answer.status_code == (200 if scheme == "bearer" else 401)


def test_garbage_is_not_read_before_it_is_known_whose_it_is(api: Api) -> None:
    answer = api.nobody().client.post("/connections", content=b"{" * 1000)
    assert answer.status_code == 401
    answer = api.tenant().client.post("/connections", content=b"{" * 1000)
    assert answer.status_code == 422


def good_tokens(pem_key: RSAKey, keys: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
    now = int(time.time())
    return {
        "HS256": token,
        "the old secret": lambda: token(key=OctKey.import_key(OLD_SECRET)),
        "PEM": lambda: token(key=pem_key, algorithm="RS256"),
        "RS256": lambda: token(key=keys["RS256"], algorithm="RS256", header={"kid": "rsa"}),
        "without kid": lambda: token(key=keys["RS256"], algorithm="RS256"),
        "PS256": lambda: token(key=keys["PS256"], algorithm="PS256", header={"kid": "pss"}),
        "ES256": lambda: token(key=keys["ES256"], algorithm="ES256", header={"kid": "ec"}),
        "ES384": lambda: token(key=keys["ES384"], algorithm="ES384", header={"kid": "ec384"}),
        "EdDSA": lambda: token(key=keys["Ed25519"], algorithm="EdDSA", header={"kid": "ed"}),
        "Ed25519": lambda: token(key=keys["Ed25519"], algorithm="Ed25519", header={"kid": "ed"}),
        "Membrane's claims": lambda: by_hand(
            {"alg": "HS256"},
            {"workspaceKey": "ws-4711", "id": "acme", "exp": now + 60, "sub": "user-7"},
            SECRET.encode(),
        ),
        "sub": lambda: token(None, sub="acme"),
        "an audience": lambda: token(aud=["x", "ws-4711"]),
        "a clock that is behind": lambda: token(exp=now - 10, iat=now - 60),
    }


def test_good_tokens_of_all_kinds_are_taken(
    api: Api, pem_key: RSAKey, keys: dict[str, Any], jwks: Jwks
) -> None:
    for kind, make in good_tokens(pem_key, keys).items():
        me = Caller(api.url, make())("GET", "/me")
        assert (me.status_code, me.json().get("tenant")) == (200, "acme"), f"{kind}: {me.text}"
    admin = Caller(api.url, token(None, isAdmin=True))("GET", "/me").json()
    assert (admin["kind"], admin["tenant"]) == ("workspace", None)
    assert jwks.asked <= 2


def test_unknown_keys_do_not_make_us_ask_their_provider_each_time(
    api: Api, keys: dict[str, Any], jwks: Jwks
) -> None:
    Caller(api.url, token(key=keys["ES256"], algorithm="ES256", header={"kid": "ec"}))("GET", "/me")
    before = jwks.asked
    other = ECKey.generate_key("P-256")
    for number in range(20):
        named = token(key=other, algorithm="ES256", header={"kid": f"new-{number}"})
        assert Caller(api.url, named)("GET", "/me").status_code == 401
    assert jwks.asked <= before + 1


def test_only_whoever_signed_it_hears_what_is_wrong_with_a_token(api: Api) -> None:
    def message(credential: str) -> str:
        return str(Caller(api.url, credential)("GET", "/me").json()["error"]["message"])

    now = int(time.time())
    forged = OctKey.import_key("another-secret-" + "x" * 32)
    assert message(token(exp=now - 3600)) == "the token is refused: it has expired"
    assert message(token(exp=now - 3600, key=forged)) == message("abc")
    assert "`exp`" in message(by_hand({"alg": "HS256"}, {"iss": "ws-4711"}, SECRET.encode()))


def test_a_tenant_is_known_at_first_sight_with_its_fields(api: Api) -> None:
    backend = api.workspace()
    assert backend("GET", "/tenants/first_sight").status_code == 404
    seen = Caller(api.url, token("first_sight", name="First", fields={"plan": "pro"}))
    assert seen("GET", "/me").json() == {
        "kind": "tenant",
        "tenant": "first_sight",
        "name": "First",
        "fields": {"plan": "pro"},
    }
    Caller(api.url, token("first_sight", fields={"plan": "free"}))("GET", "/me")
    kept = backend("GET", "/tenants/first_sight").json()
    assert (kept["name"], kept["fields"]) == ("First", {"plan": "free"})


def test_a_tenant_cannot_name_another(api: Api) -> None:
    named = Caller(api.url, token("other"), tenant="acme")
    assert named("GET", "/connections").status_code == 403
