"""`membrane serve` and `membrane dev` as processes, the way a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from membrane_sync.apps.process import free_port
from membrane_sync.cli.scaffold import scaffold

KEY = "api-key-" + "k" * 32


@pytest.fixture
def project(tmp_path: Path) -> Path:
    scaffold(tmp_path / "crm")
    return tmp_path / "crm"


def environment(**more: str) -> dict[str, str]:
    given = {name: v for name, v in os.environ.items() if not name.startswith("MEMBRANE_")}
    return {**given, **more}


@contextmanager
def running(
    project: Path, *words: str, log: Path, at: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """`membrane` with these words; `at` is where the world finds its server."""
    command = [sys.executable, "-m", "membrane_sync.cli.main", *words]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment(
                MEMBRANE_API_KEYS=KEY, MEMBRANE_PUBLIC_URL=at, MEMBRANE_PRIVATE_HOSTS="127.0.0.1"
            ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        left = [process, *_children(process)]
        for one in left:
            if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                one.kill()
        process.wait(timeout=20)


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def answer(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return httpx.get(url, timeout=5, trust_env=False)
        except httpx.TransportError:
            said = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)


def test_it_serves_and_stops_when_it_is_told_to(project: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with running(project, "serve", "--port", str(port), log=log) as process:
        url = f"http://127.0.0.1:{port}"
        assert answer(f"{url}/health", process, log, 60).json() == {"status": "ok"}
        headers = {"Authorization": f"Bearer {KEY}"}
        path = "/connections/planted-key?x=planted-value"
        missing = httpx.get(url + path, headers=headers, trust_env=False)
        assert missing.status_code == 404
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    said = log.read_text()
    assert f"API: {url}" in said
    request_id = missing.headers["X-Request-Id"]
    assert f"{request_id} GET /connections/{{connection}} 404" in said
    assert "planted" not in said and KEY not in said and "Traceback" not in said


def test_without_a_key_it_says_what_to_set(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "membrane_sync.cli.main", "serve", "--port", str(free_port())],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "MEMBRANE_API_KEYS" in done.stderr


def test_dev_has_the_api_beside_dagster(project: Path, tmp_path: Path) -> None:
    port, api_port, log = free_port(), free_port(), tmp_path / "log"
    words = ("dev", "--port", str(port), "--api-port", str(api_port))
    with running(project, *words, log=log) as process:
        health = answer(f"http://127.0.0.1:{api_port}/health", process, log, 90)
        assert health.json() == {"status": "ok"}
        assert answer(f"http://127.0.0.1:{port}/server_info", process, log, 120).status_code == 200
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C does
        process.wait(timeout=60)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{api_port}/health", trust_env=False)
