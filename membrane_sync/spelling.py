"""How texts spell a secret: as it is, as URLs, JSON, HTML, source code and base64 do, nested too.

Each secret is looked for letter by letter, since encoders differ in which letters they escape, and
what an answer quotes may have been escaped before.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from html.entities import codepoint2name
from urllib.parse import quote, quote_plus

SHORTEST_INNER = 5
"""Characters that base64 must have of a secret, whatever stands around it."""
SHORTEST_LINE = 16
"""Characters of a line that is a secret by itself: one of a private key, say."""
SHORTEST_CORE = 4
LONGEST_LETTER = 96
"""Bytes that a spelling of one letter may have, at most."""

_PLAIN = re.compile(r"[A-Za-z0-9]")
_BACKSLASHES = r"(?:\\{1,8}|(?:%(?:25){0,3}5[cC]){1,2})"
"""What opens an escape: one, doubled each time that it's escaped again, or in a URL."""
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


class Spellings:
    """All spellings of all of these secrets, to be found in texts and in bytes."""

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line for secret in secrets for line in _lines(secret)}
        # The longest first: what is left of a longer one would tell the rest of it.
        ordered = sorted(lines, key=lambda line: (-len(line), line))
        forms = dict.fromkeys(form for line in ordered for form in _forms(line))
        self._forms: Sequence[_Form] = list(forms)

    @property
    def longest(self) -> int:
        """So many bytes, or fewer, are needed to see that a secret ends, or that there's none."""
        return max((form.longest for form in self._forms), default=0)

    @property
    def have_lines(self) -> bool:
        """Whether one of them goes over several lines."""
        return any("\n" in form.text for form in self._forms)

    def hide(self, text: str, by: str) -> str:
        """The text with `by` in the place of each of them."""
        for form in self._forms:
            if form.core in text:
                text = form.in_text.sub(lambda _: by, text)
        return text

    def find(self, content: bytes) -> list[tuple[int, int]]:
        """Where they begin and end in UTF-8; as far as they're the same, in other encodings too."""
        there = (form for form in self._forms if form.core_in_bytes in content)
        return [found.span() for form in there for found in form.in_bytes.finditer(content)]


@dataclass(frozen=True)
class _Form:
    """A secret as it is, or a part of what base64 makes of it."""

    text: str
    is_base64: bool = False

    # Both take long to make, and few texts have a secret at all.
    @cached_property
    def in_text(self) -> re.Pattern[str]:
        return re.compile(self._pattern)

    @cached_property
    def in_bytes(self) -> re.Pattern[bytes]:
        return re.compile(self._pattern.encode("utf-8", "surrogatepass"))

    @property
    def _pattern(self) -> str:
        letter = _letter_of_base64 if self.is_base64 else _letter
        return "".join(map(letter, self.text))

    @cached_property
    def core_in_bytes(self) -> bytes:
        return self.core.encode()

    @cached_property
    def core(self) -> str:
        """What each spelling has of it: letters that nothing escapes; "" if they are too few."""
        found = max(re.findall(f"{_PLAIN.pattern}+", self.text), key=len, default="")
        return found if len(found) >= SHORTEST_CORE else ""

    @cached_property
    def longest(self) -> int:
        odd = len(_PLAIN.sub("", self.text))
        return len(self.text) + odd * LONGEST_LETTER


def _lines(secret: str) -> Iterator[str]:
    """All of it, and the lines of a longer one: whoever quotes a key may indent it, or cut it."""
    yield secret
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= SHORTEST_LINE and not line.startswith("-----"):
                yield line


@lru_cache(maxsize=256)
def _forms(secret: str) -> Sequence[_Form]:
    content = secret.encode("utf-8", "surrogatepass")
    written = {content, quote(content, safe="").encode(), quote_plus(content).encode()}
    written |= {json.dumps(secret)[1:-1].encode()}
    inner = {text for form in written for text in _in_base64(form)}
    ordered = sorted(inner, key=lambda text: (-len(text), text))
    return [_Form(secret), *(_Form(text, is_base64=True) for text in ordered)]


def _in_base64(content: bytes) -> Iterator[str]:
    """What base64 makes of it wherever it stands in a longer text, as in `user:password`."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + content).decode()
        start = 0 if before == 0 else before + 1
        end = len(content) + before
        inner = encoded[start : end // 3 * 4 + (end % 3)]
        if len(inner) >= SHORTEST_INNER:
            yield inner


def _letter_of_base64(letter: str) -> str:
    other = {"+": "-", "/": "_"}.get(letter)
    return f"(?:{_letter(letter)}|{other})" if other else _letter(letter)


@lru_cache(maxsize=4096)
def _letter(letter: str) -> str:
    """The spellings of one letter, as a regular expression."""
    if _PLAIN.fullmatch(letter):
        return letter
    forms = [_plain(letter), _in_urls(letter.encode("utf-8", "surrogatepass")), _in_html(letter)]
    return f"(?:{_BACKSLASHES}?(?:{'|'.join(forms)})|{'|'.join(_escaped(letter))})"


def _plain(letter: str) -> str:
    if letter == "\n":
        return r"\r?\n"
    return re.escape(letter) + ("{1,2}" if letter == "'" else "")


def _in_urls(content: bytes) -> str:
    space = r"|\+" if content == b" " else ""
    return "".join(f"%(?:25){{0,3}}{_hex(f'{byte:02x}')}" for byte in content) + space


def _escaped(letter: str) -> Iterator[str]:
    """With a backslash: as JSON writes it, and as Python does, in texts and in bytes."""
    code, content = ord(letter), letter.encode("utf-8", "surrogatepass")
    units = letter.encode("utf-16-be", "surrogatepass")
    yield _codes("u", [units[at : at + 2].hex() for at in range(0, len(units), 2)])
    if letter in _ESCAPES:
        yield _BACKSLASHES + _ESCAPES[letter]
    if letter == "\\":
        yield _BACKSLASHES
    if not letter.isascii():
        yield _codes("x", [f"{byte:02x}" for byte in content])
    if code < 0x100:
        yield _codes("x", [f"{code:02x}"])
    if code > 0xFFFF:
        yield _codes("U", [f"{code:08x}"])


def _codes(kind: str, codes: Iterable[str]) -> str:
    return "".join(f"{_BACKSLASHES}{kind}{_hex(code)}" for code in codes)


def _in_html(letter: str) -> str:
    code = ord(letter)
    named = "apos" if letter == "'" else codepoint2name.get(code)
    names = [f"#0{{0,4}}{code}", f"#[xX]0{{0,4}}{_hex(f'{code:x}')}", *([named] if named else [])]
    return f"&(?:amp;){{0,3}}(?:{'|'.join(names)});"


def _hex(digits: str) -> str:
    """Hexadecimal digits in either case."""
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in digits)
