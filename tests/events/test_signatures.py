"""Every scheme takes what its vendor publishes as an example, and nothing that differs from it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from membrane_sync.elements.webhook import Signature
from membrane_sync.events.request import WebhookRequest
from membrane_sync.events.signatures import Refused, check_of, secrets_of

URL = "https://api.example.com/webhooks/k"
EVENT = b'{"id":"evt_1","object":"event"}'


@dataclass(frozen=True)
class Example:
    """A request that is good at `now`, and how it's declared."""

    signature: Mapping[str, Any]
    secret: Any
    headers: Mapping[str, str]
    body: bytes = EVENT
    url: str = URL
    now: float = 1_700_000_000.0
    unsigned: frozenset[str] = field(default_factory=frozenset)
    """Of body and url, those that the scheme doesn't sign."""


TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
TWILIO_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SENDGRID_BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",'
    b'"timestamp":1600112492}]\r\n'
)
FORM = {"content-type": "application/x-www-form-urlencoded"}
ONLY_HEADERS = frozenset({"body", "url"})
ONLY_BODY = frozenset({"url"})

EXAMPLES: dict[str, Example] = {
    # The specification's and Svix's example: docs.svix.com/receiving/verifying-payloads/how-manual
    "standard_webhooks": Example(
        {"scheme": "standard_webhooks"},
        "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        b'{"test": 2432232314}',
        now=1_614_265_330,
        unsigned=ONLY_BODY,
    ),
    # docs.github.com: Validating webhook deliveries
    "github": Example(
        {"scheme": "github"},
        "It's a Secret to Everybody",
        {
            "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a"
            "37570b6d7586c22c46f4379c8b043e17"
        },
        b"Hello, World!",
        unsigned=ONLY_BODY,
    ),
    # api.slack.com: Verifying requests from Slack
    "slack": Example(
        {"scheme": "slack"},
        "8f742231b10e8888abcd99yyyzzz85a5",
        {
            "X-Slack-Request-Timestamp": "1531420618",
            "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235"
            "a7b4a8d21a10bd27519666489c69b503",
            **FORM,
        },
        SLACK_BODY,
        now=1_531_420_618,
        unsigned=ONLY_BODY,
    ),
    # twilio-python: tests/unit/test_request_validator.py
    "twilio, a form": Example(
        {"scheme": "twilio"},
        "12345",
        {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=", **FORM},
        urlencode(TWILIO_FORM).encode(),
        TWILIO_URL,
    ),
    "twilio, JSON": Example(
        {"scheme": "twilio"},
        "12345",
        {"X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4=", "content-type": "application/json"},
        b'{"property": "value", "boolean": true}',
        f"{TWILIO_URL}&bodySHA256={TWILIO_HASH}",
    ),
    "twilio, signed with the port": Example(
        {"scheme": "twilio"},
        "12345",
        {"X-Twilio-Signature": "kvajT1Ptam85bY51eRf/AJRuM3w=", **FORM},
        urlencode(TWILIO_FORM).encode(),
        TWILIO_URL,
    ),
    # sendgrid-python: test/unit/test_eventwebhook.py
    "ecdsa, as SendGrid's": Example(
        {
            "scheme": "ecdsa",
            "header": "X-Twilio-Email-Event-Webhook-Signature",
            "encoding": "base64",
            "timestamp_header": "X-Twilio-Email-Event-Webhook-Timestamp",
            "template": "{timestamp}{body}",
            "secret": {"$var": "$.secret"},
        },
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe"
        "62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
        {
            "X-Twilio-Email-Event-Webhook-Signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG"
            "0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
            "X-Twilio-Email-Event-Webhook-Timestamp": "1600112502",
        },
        SENDGRID_BODY,
        now=1_600_112_502,
        unsigned=ONLY_BODY,
    ),
    # RFC 8032, 7.1, test 3
    "ed25519": Example(
        {"scheme": "ed25519", "header": "X-Signature-Ed25519", "secret": {"$var": "$.secret"}},
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        {
            "X-Signature-Ed25519": "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7"
            "db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        },
        bytes.fromhex("af82"),
        unsigned=ONLY_BODY,
    ),
    # Those that follow publish no example: made by `openssl dgst -hmac`, as their pages describe.
    "stripe": Example(
        {"scheme": "stripe"},
        "whsec_test_secret",
        {
            "Stripe-Signature": f"t=1700000000,v0={'0' * 64},v1=0c8670ed117751cc551a20e358394470"
            "75c42800ea3cf3e8a2fbda99cd1e6edd"
        },
        unsigned=ONLY_BODY,
    ),
    "shopify": Example(
        {"scheme": "shopify"},
        "hush",
        {"X-Shopify-Hmac-SHA256": "Y5yh1MBcvmylNdRGRmMjSnWMAU5vK6ZYOwIowkFMvRk="},
        unsigned=ONLY_BODY,
    ),
    "hubspot": Example(
        {"scheme": "hubspot"},
        "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
        {
            "X-HubSpot-Signature-v3": "/wvxf7GA5JIo3UaE+INGzi5MVSmX2TBR1WK6MY2C6kU=",
            "X-HubSpot-Request-Timestamp": "1700000000123",
        },
        url=f"{URL}?q=a%3Ab%2fc%20d",
    ),
    "hmac, as Zoom's": Example(
        {
            "scheme": "hmac",
            "header": "x-zm-signature",
            "prefix": "v0=",
            "timestamp_header": "x-zm-request-timestamp",
            "template": "v0:{timestamp}:{body}",
        },
        "hush",
        {
            "x-zm-signature": "v0="
            + hmac.new(b"hush", b"v0:1700000000:" + EVENT, hashlib.sha256).hexdigest(),
            "x-zm-request-timestamp": "1700000000",
        },
        unsigned=ONLY_BODY,
    ),
    "hmac, as Square's": Example(
        {
            "scheme": "hmac",
            "header": "x-square-hmacsha256-signature",
            "encoding": "base64",
            "template": "{url}{body}",
        },
        "hush",
        {
            "x-square-hmacsha256-signature": base64.b64encode(
                hmac.digest(b"hush", URL.encode() + EVENT, "sha256")
            ).decode()
        },
    ),
    "basic": Example(
        {"scheme": "basic"},
        {"username": "me", "password": "pass:word"},
        {"Authorization": "basic " + base64.b64encode(b"me:pass:word").decode()},
        unsigned=ONLY_HEADERS,
    ),
    "bearer": Example(
        {"scheme": "bearer"},
        "the-token",
        {"Authorization": "Bearer the-token"},
        unsigned=ONLY_HEADERS,
    ),
    # docs.gitlab.com: Webhooks, validate requests by using a secret token
    "bearer, as GitLab's": Example(
        {"scheme": "bearer", "header": "X-Gitlab-Token"},
        "the-token",
        {"X-Gitlab-Token": "the-token"},
        unsigned=ONLY_HEADERS,
    ),
}


def verify(example: Example, secrets: list[str] | None = None, token: Any = None) -> None:
    headers = [(name.lower(), value) for name, value in example.headers.items()]
    request = WebhookRequest("POST", example.url, headers, example.body)
    known = secrets_of(example.secret) if secrets is None else secrets
    check_of(Signature(**example.signature))(request, known, example.now, token)


def refused(example: Example, secrets: list[str] | None = None) -> str:
    with pytest.raises(Refused) as caught:
        verify(example, secrets)
    return str(caught.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_is_good(name: str) -> None:
    verify(EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_another_is_not(name: str) -> None:
    example = EXAMPLES[name]
    if "body" not in example.unsigned:
        refused(replace(example, body=example.body + b"&x=1"))
        refused(replace(example, body=b""))
    if "url" not in example.unsigned:
        refused(replace(example, url=example.url.replace("https://", "https://www.")))
    for header in example.headers:
        if header != "content-type":
            others = {n: v for n, v in example.headers.items() if n != header}
            refused(replace(example, headers=others))
            refused(replace(example, headers={**others, header: ""}))
            refused(replace(example, headers={**others, header: "v0=sha256=Basic v1,ÿ\x00🙂"[:9]}))
            written = example.headers[header]
            changed = written[:-6] + ("A" if written[-6] != "A" else "B") + written[-5:]
            refused(replace(example, headers={**others, header: changed}))


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_proved_without_the_secret(name: str) -> None:
    example = EXAMPLES[name]
    assert refused(example, []) == "there's no secret to check it with"
    assert "secret" not in refused(example, ["another"]).replace("the secret to check it", "")
    for blank in (None, "", " ", [], ["", None], {}, 7):
        assert secrets_of(blank) == []


@pytest.mark.parametrize("name", [n for n in EXAMPLES if not n.startswith(("ed25519", "ecdsa"))])
def test_any_of_several_secrets_will_do(name: str) -> None:
    example = EXAMPLES[name]
    other = "whsec_" + base64.b64encode(b"another one").decode()
    verify(example, [other, *secrets_of(example.secret)])
    verify(example, [*secrets_of(example.secret), other])


@pytest.mark.parametrize("name", ["standard_webhooks", "slack", "stripe", "hubspot"])
def test_what_is_too_old_or_dated_ahead_is_refused(name: str) -> None:
    example = EXAMPLES[name]
    for seconds in (-299, 299):
        verify(replace(example, now=example.now + seconds))
    assert "ago" in refused(replace(example, now=example.now + 302))
    assert "ahead" in refused(replace(example, now=example.now - 302))
    wide = {**example.signature, "tolerance_seconds": 3600}
    verify(replace(example, signature=wide, now=example.now + 302))


def test_two_values_of_one_header_are_refused() -> None:
    example = EXAMPLES["github"]
    good = example.headers["X-Hub-Signature-256"]
    check = check_of(Signature(**example.signature))
    secrets = secrets_of(example.secret)
    for values, fits in (([good, good], True), ([good, "sha256=00"], False)):
        headers = [("x-hub-signature-256", value) for value in values]
        request = WebhookRequest("POST", URL, headers, example.body)
        if fits:
            check(request, secrets, 0, None)
        else:
            with pytest.raises(Refused, match="several headers"):
                check(request, secrets, 0, None)


def test_standard_webhooks_by_two_secrets_and_by_a_public_key() -> None:
    example = EXAMPLES["standard_webhooks"]
    good = example.headers["webhook-signature"]
    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + example.body
    own = "v1a," + base64.b64encode(private.sign(signed)).decode()
    key = "whpk_" + base64.b64encode(raw).decode()

    def sent(signature: str) -> Example:
        return replace(example, headers={**example.headers, "webhook-signature": signature})

    verify(sent(f"v1,{base64.b64encode(b'x' * 32).decode()} {good} v9,abc"))
    verify(sent(own), [key])
    refused(sent(own))
    refused(sent(good), [key])
    # The public key is no secret: nobody may sign with it.
    forged = base64.b64encode(hmac.digest(raw, signed, "sha256")).decode()
    refused(sent(f"v1,{forged}"), [key])
    refused(sent(f"v1a,{forged}"), [key])
    assert "isn't base64" in refused(example, ["whsec_"])
    headers = {name.replace("webhook-", "svix-"): v for name, v in example.headers.items()}
    verify(replace(example, headers=headers))


def test_a_signature_in_any_case_and_a_secret_in_hex() -> None:
    key = bytes(range(32))
    declared = {"scheme": "hmac", "header": "X-S", "algorithm": "sha512", "secret_encoding": "hex"}
    signed = hmac.digest(key, EVENT, "sha512").hex().upper()
    example = Example(declared, key.hex(), {"x-s": signed}, unsigned=ONLY_BODY)
    verify(example)
    assert "isn't hex" in refused(example, ["not hex"])
    refused(replace(example, headers={"x-s": "not hex"}))


def test_a_form_of_a_great_many_fields_is_refused_before_it_is_read() -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "AAAA"}
    example = Example({"scheme": "twilio"}, "12345", headers, b"a=&" * 20_000, TWILIO_URL)
    assert "more than 10,000 fields" in refused(example)


def test_twilio_signs_each_value_of_a_field_once() -> None:
    """twilio-php: tests/Twilio/Unit/Security/RequestValidatorTest.php"""
    fields = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234")]
    body = urlencode([*fields, ("Digits", "1234")]).encode()
    headers = {"X-Twilio-Signature": "IK+Dwps556ElfBT0I3Rgjkr1wJU=", **FORM}
    verify(Example({"scheme": "twilio"}, "12345", headers, body, TWILIO_URL))


@pytest.mark.parametrize("kind", ["pkcs1v15", "pss"])
def test_rsa_by_a_key_or_a_certificate(kind: str) -> None:
    private = rsa.generate_private_key(65537, 2048)
    how = (
        padding.PKCS1v15() if kind == "pkcs1v15" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    )
    given = base64.b64encode(private.sign(EVENT, how, hashes.SHA256())).decode()
    declared = {
        **{"scheme": "rsa", "header": "X-S", "encoding": "base64", "padding": kind},
        "secret": {"$var": "$.secret"},
    }
    public = private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    example = Example(declared, pem, {"x-s": given})
    verify(example)
    verify(example, [certificate(private)])
    refused(replace(example, body=EVENT + b" "))
    other = "pss" if kind == "pkcs1v15" else "pkcs1v15"
    refused(replace(example, signature={**declared, "padding": other}))
    ed25519 = EXAMPLES["ed25519"].secret
    assert "isn't one of rsa" in refused(example, [ed25519])
    assert "can't be read" in refused(example, ["-----BEGIN nothing"])


def certificate(private: rsa.RSAPrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sender")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, now, now + timedelta(1))
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_token_in_the_body_has_to_be_in_each_item() -> None:
    declared = {"scheme": "bearer", "token": {"$var": "$.body.value"}}
    example = Example(declared, "state-1", {})
    verify(example, token="state-1")
    verify(example, token=["state-1", "state-1"])
    for token in (None, "", [], ["state-1", None], ["state-1", "state-2"], {"a": "state-1"}):
        with pytest.raises(Refused):
            verify(example, token=token)
