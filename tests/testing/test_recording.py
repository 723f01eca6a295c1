"""Recorded exchanges play back the same, and no planted secret reaches the file."""

import base64
import json
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from membrane_sync.errors import Fatal
from membrane_sync.testing.recording import REDACTED, Recorder, Redaction, Replayer

PLANTED = "s3cret/+value=1"
PASSWORD = "pass word&more"
ISSUED = "issued-access-token-77"
COOKIE = "cookie-value-4711"
HEADER_KEY = "key-in-a-header-99"
NUMBER = "900900900"


def app(request: httpx.Request) -> httpx.Response:
    """An app that repeats everything it's given, where it should and where it shouldn't."""
    body = {
        "echo": str(request.url),
        "authorization_was": request.headers.get("authorization", ""),
        "nested": [{"client_secret": "another-secret-1", "note": f"it was {PLANTED}!"}],
        "access_token": ISSUED,
        "account": int(NUMBER),
        "content": request.content.decode(),
        "next": f"http://app.example/list?page=2&again={ISSUED}",
        "price": 1.10,
    }
    headers = {
        "Set-Cookie": f"session={COOKIE}; Path=/",
        "X-Echo": f"Bearer {PLANTED}",
        "X-RateLimit-Remaining": "41",
    }
    return httpx.Response(200, json=body, headers=headers)


def session(transport: httpx.BaseTransport, url: str = "http://app.example") -> list[object]:
    """A few requests with secrets in every place; gives what came back."""
    headers = {"Authorization": f"Bearer {PLANTED}", "X-Api-Key": HEADER_KEY}
    with httpx.Client(base_url=url, transport=transport, headers=headers) as client:
        first = client.get("/list", params={"page": 1, "api_key": PLANTED, "q": PASSWORD})
        form = client.post("/token", data={"refresh_token": "refresh-me-5", "user": PASSWORD})
        basic = client.get("/me", auth=("ada", PASSWORD))
        posted = client.post("/list", json={"page": 1, "pin": "pin-by-declared-name"})
        return [r.status_code for r in (first, form, basic, posted)]


SECRETS = [
    PLANTED,
    PASSWORD,
    ISSUED,
    COOKIE,
    HEADER_KEY,
    NUMBER,
    "another-secret-1",
    "refresh-me-5",
    "pin-by-declared-name",
    base64.b64encode(f"ada:{PASSWORD}".encode()).decode(),
    base64.b64encode(PLANTED.encode()).decode(),
]


def redaction() -> Redaction:
    return Redaction([PLANTED, PASSWORD, NUMBER], names=["pin"])


def recorded(path: Path) -> Path:
    recorder = Recorder(redaction(), httpx.MockTransport(app))
    session(recorder)
    recorder.save(path)
    return path


def test_no_secret_reaches_the_file(tmp_path: Path) -> None:
    text = recorded(tmp_path / "app.json").read_text()
    plain = text + json.dumps(json.loads(text), ensure_ascii=False)
    for secret in SECRETS:
        for form in (secret, str(httpx.QueryParams({"x": secret}))[2:]):
            assert form not in plain
    assert REDACTED in text
    file = json.loads(text)
    answer = json.loads(file["exchanges"][0]["response"]["body"])
    assert answer["price"] == 1.10
    assert ["x-ratelimit-remaining", "41"] in file["exchanges"][0]["response"]["headers"]


def test_the_client_itself_sees_everything(tmp_path: Path) -> None:
    recorder = Recorder(redaction(), httpx.MockTransport(app))
    with httpx.Client(transport=recorder) as client:
        answer = client.get("http://app.example/x").json()
    assert answer["access_token"] == ISSUED


def test_it_plays_back_in_order_wherever_the_app_is(tmp_path: Path) -> None:
    path = recorded(tmp_path / "app.json")
    replayer = Replayer(path, redaction())
    assert session(replayer, "http://elsewhere.example:81") == [200] * 4
    assert replayer.unused == 0


def test_urls_of_the_app_lead_to_where_it_is_played(tmp_path: Path) -> None:
    path = recorded(tmp_path / "app.json")
    with httpx.Client(transport=Replayer(path, redaction())) as client:
        query = {"page": 1, "api_key": PLANTED, "q": PASSWORD}
        answer = client.get("http://elsewhere.example:81/list", params=query).json()
    assert answer["next"].startswith("http://elsewhere.example:81/list?page=2")


def test_another_request_than_recorded_is_refused(tmp_path: Path) -> None:
    path = recorded(tmp_path / "app.json")
    with (
        httpx.Client(transport=Replayer(path, redaction())) as client,
        pytest.raises(Fatal, match="no further answer to GET /other"),
    ):
        client.get("http://app.example/other")


def test_compressed_and_binary_bodies_come_back_as_they_are(tmp_path: Path) -> None:
    picture = bytes(range(256))

    def binary(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=picture, headers={"Content-Type": "image/png"})

    recorder = Recorder(Redaction(), httpx.MockTransport(binary))
    with httpx.Client(transport=recorder) as client:
        client.get("http://app.example/p")
    recorder.save(tmp_path / "p.json")
    with httpx.Client(transport=Replayer(tmp_path / "p.json", Redaction())) as client:
        assert client.get("http://app.example/p").content == picture


SIGNED = "https://files.example/a.png?X-Amz-Signature=feed5eedfeed&w=9&sig=abcd1234&page_token=p7"


def test_secrets_deeper_below_their_names_and_in_urls_are_found() -> None:
    body = {
        "credentials": {"user": "ada-9", "pins": [4711, "more-of-it"], "on": True, "by": None},
        "api_keys": ["key-number-one"],
        "password": "",
        "picture": SIGNED,
        "note": "was it key-number-one, or feed5eedfeed?",
    }
    redaction = Redaction()
    clean = json.loads(redaction.body(json.dumps(body).encode()))
    hidden = {"user": REDACTED, "pins": [REDACTED, REDACTED], "on": True, "by": None}
    assert clean == {
        "credentials": hidden,
        "api_keys": [REDACTED],
        "password": "",
        "picture": "https://files.example/a.png?X-Amz-Signature=REDACTED&w=9&sig=REDACTED"
        "&page_token=p7",
        "note": "was it REDACTED, or REDACTED?",
    }
    assert "feed5eedfeed" not in redaction.named("location", SIGNED)
    form = b"grant_type=jwt-bearer&client_assertion=ey.abc.def"
    assert redaction.body(form) == "grant_type=jwt-bearer&client_assertion=REDACTED"


def test_tokens_of_pages_are_no_secrets_whatever_they_are_called(tmp_path: Path) -> None:
    tokens = {"": "first-token-1", "first-token-1": "second-token-2", "second-token-2": ""}

    def paged(request: httpx.Request) -> httpx.Response:
        given = request.url.params.get("session_id", "")
        return httpx.Response(200, json={"session_id": tokens[given], "jwt": f"other-{given}"})

    def pages(transport: httpx.BaseTransport) -> list[str]:
        with httpx.Client(transport=transport) as client:
            token, seen = "", []
            for _ in tokens:
                query = {"session_id": token} if token else {}
                token = client.get("http://app.example/l", params=query).json()["session_id"]
                seen.append(token)
            return seen

    recorder = Recorder(Redaction(plain=["session_id"]), httpx.MockTransport(paged))
    live = pages(recorder)
    recorder.save(tmp_path / "p.json")
    assert "other-" not in (tmp_path / "p.json").read_text()
    assert pages(Replayer(tmp_path / "p.json", Redaction(plain=["session_id"]))) == live


@pytest.mark.parametrize("text", ["", "[]", '{"version": 9, "origin": "", "exchanges": []}'])
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "no.json"
    path.write_text(text)
    with pytest.raises(Fatal, match="is no recording"):
        Replayer(path, Redaction())


@given(
    secret=st.text(min_size=4, max_size=20),
    around=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
)
@example("0000", "\0")
@example("10000", [10000, 100000])
def test_a_secret_is_found_anywhere_in_json(secret: str, around: object) -> None:
    body = {"a": around, "b": [{"c": f"x{secret}y"}], secret: 1}
    clean = Redaction([secret]).body(json.dumps(body).encode())
    assert secret in REDACTED or not says(json.loads(clean), secret)


def says(value: object, secret: str) -> bool:
    """Whether a JSON value has the secret in a text, or is it: a NUL is only written by digits."""
    if isinstance(value, dict):
        return any(secret in name or says(item, secret) for name, item in value.items())
    if isinstance(value, list):
        return any(says(item, secret) for item in value)
    if isinstance(value, str):
        return secret in value
    return isinstance(value, int) and str(value) == secret
