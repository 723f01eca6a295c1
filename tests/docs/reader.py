"""A reader who does what a page says, from top to bottom, in a project of their own.

YAML is written to the file that its first line names, and `check` must find no error in it, or it
quotes a file of docs/. Commands are run one by one; Python is executed; SQL is asked of the lake of
`acme_kinto`. `membrane serve` stays, for the commands that follow, till the reader is done.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil
import yaml

from membrane_sync.apps.process import answers, free_port
from membrane_sync.bootstrap import find_root, open_runtime
from membrane_sync.project.project import Project
from membrane_sync.project.references import check, errors
from membrane_sync.project.settings import load_settings
from tests.docs.pages import REPOSITORY, Fence

CONNECTION = "acme_kinto"
COMMAND_SECONDS = 300
SERVER_SECONDS = 120

_EXITS = re.compile(r"\s+# exits (\d+)$")
_MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
_OWN = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Reader:
    """Does what fences say in `folder`; `given` are variables that win over a page's own."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], given: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__docs__"}
        self._given = dict(given)
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = {**environment, **given}
        self._readers: dict[str, Callable[[Fence], None]] = {
            "yaml": self._yaml,
            "toml": self._toml,
            "bash": self._bash,
            "python": self._python,
            "sql": self._sql,
            "yaml formula": _formula,
            "console": _sample,
            "text": _sample,
        }

    def read(self, fence: Fence) -> None:
        """Do one fence; a fence of a kind that nobody can do is an error."""
        assert fence.info in self._readers, (
            f"{fence}: mark it as one of {', '.join(self._readers)}, not {fence.info!r}"
        )
        self._readers[fence.info](fence)

    def _yaml(self, fence: Fence) -> None:
        quoted = re.match(r"# (docs/\S+\.yaml)\n", fence.text)
        if quoted:
            whole = (REPOSITORY / quoted[1]).read_text(encoding="utf-8")
            assert fence.text[quoted.end() :] in whole, f"{fence}: {quoted[1]} says something else"
            return
        file = self._write(fence, r"# ((?:connectors|mappings)/\S+\.yaml)$")
        problems = errors(check(Project.load(find_root(self.folder))))
        here = [str(problem) for problem in problems if problem.file == file]
        assert not here, f"{fence}: {'; '.join(here)}"

    def _toml(self, fence: Fence) -> None:
        self._write(fence, r"# (pyproject\.toml)$")
        variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", fence.text), "sqlite:///elsewhere.db")
        load_settings(find_root(self.folder), {**self._environment, **variables})

    def _bash(self, fence: Fence) -> None:
        for command in commands(fence.text):
            self._command(fence, command)

    def _python(self, fence: Fence) -> None:
        code = compile("\n" * fence.line + fence.text, str(fence.page), "exec")
        with chdir(self.folder):
            exec(code, self.names)
        if "kinto" in self.names:
            self._given["KINTO_URL"] = self._environment["KINTO_URL"] = self.names["kinto"].url

    def _sql(self, fence: Fence) -> None:
        runtime = open_runtime(find_root(self.folder))
        lake = runtime.lake(runtime.ledger.connection(CONNECTION))
        try:
            lake.select(fence.text)
        finally:
            lake.close()

    def _write(self, fence: Fence, first_line: str) -> str:
        named = re.match(first_line, fence.text.splitlines()[0])
        assert named, f"{fence}: the first line must be a comment that names the file"
        path = find_root(self.folder) / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fence.text, encoding="utf-8")
        return named[1]

    def _command(self, fence: Fence, line: str) -> None:
        expected = int(found[1]) if (found := _EXITS.search(line)) else 0
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.folder /= words[1]
        elif words[0] == "export":
            name = words[1].partition("=")[0]
            value = self._run(fence, f'{line}; printf %s "${name}"', 0)
            self._environment[name] = self._given.get(name, value)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", _MAKEFILE, re.MULTILINE), f"{fence}: no {words[1]}"
        elif words[:2] == ["pip", "install"]:
            _check_install(fence, words[2])
        elif words[:2] in (["membrane", "dev"], ["dagster", "dev"]):
            port = free_port()
            self._start(fence, words, port, f"http://127.0.0.1:{port}/server_info")
            self.done()
        elif words == ["membrane", "serve"]:
            port = free_port()
            self._given["API"] = f"http://127.0.0.1:{port}"
            self._start(fence, words, port, f"http://127.0.0.1:{port}/health")
        else:
            self._run(fence, line, expected)

    def _run(self, fence: Fence, line: str, expected: int) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == expected, f"{fence}: {line}\n{done.returncode}: {done.stdout}"
        return done.stdout

    def _start(self, fence: Fence, words: list[str], port: int, url: str) -> None:
        """Start a server, and ask it until it answers."""
        log = self.folder / "server.log"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                [*words, "--port", str(port)],
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        _wait_for(url, self._server, fence, log)

    def done(self) -> None:
        """Stop what was started, with all that it started."""
        if self._server is not None:
            _stop(self._server)
            self._server = None


def commands(text: str) -> list[str]:
    """The command lines of a fence; a line that ends in a backslash goes on in the next."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and line[0] != "#"]


def _check_install(fence: Fence, requirement: str) -> None:
    """The package can't come from a registry here; its name and its extras must be right."""
    name, _, extras = requirement.rstrip("]").partition("[")
    assert name == _OWN["name"], f"{fence}: the package is called {_OWN['name']}"
    unknown = set(filter(None, extras.split(","))) - set(_OWN["optional-dependencies"])
    assert not unknown, f"{fence}: unknown extras {unknown}"


def _wait_for(url: str, server: subprocess.Popen[bytes], fence: Fence, log: Path) -> None:
    is_ready = answers(url)
    deadline = time.monotonic() + SERVER_SECONDS
    while not is_ready():
        said = f"{fence}: no answer at {url}\n{log.read_text(errors='replace')[-4000:]}"
        assert server.poll() is None and time.monotonic() < deadline, said
        time.sleep(0.2)


def _stop(server: subprocess.Popen[bytes]) -> None:
    started = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.terminate()
    _, left = psutil.wait_procs(started[1:], timeout=20)
    for process in left:
        process.kill()
    server.wait(timeout=20)


def _formula(fence: Fence) -> None:
    """tests/formulas/test_docs.py runs these; here only their form counts."""
    assert set(yaml.safe_load(fence.text)) == {"given", "formula", "gives"}, str(fence)


def _sample(fence: Fence) -> None:
    """What a program printed on one day; it's there to be read."""
    assert fence.text.strip(), f"{fence} is empty"


def python_folder() -> str:
    """Where the commands of this environment are."""
    return str(Path(sys.executable).parent)
