"""Dagster's UI as a user starts it, with `membrane dev`, and its GraphQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import httpx
import psutil

from membrane_sync.apps.process import HOST, free_port
from membrane_sync.cli.dagster_process import dagster_environment

T = TypeVar("T")

PARTITIONS = """query ($asset: AssetKeyInput!) { assetNodeOrError(assetKey: $asset) {
  ... on AssetNode { partitionKeys } } }"""
LOADED = """{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"""
RUNS = """{ runsOrError { ... on Runs { results {
  runId status startTime endTime tags { key value } } } } }"""


class DevServer:
    """`membrane dev` in a project; leaving it ends the process and all that it has started."""

    def __init__(self, root: Path) -> None:
        self.url = f"http://{HOST}:{(port := free_port())}"
        self._log = (root / "dev.log").open("wb")
        self._process = psutil.Popen(
            [sys.executable, "-m", "membrane_sync.cli.main", "dev", "--port", str(port)],
            cwd=root,
            env=dagster_environment(root),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        try:
            wait_for("the code location", self._is_loaded, seconds=60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Parents first: a parent that lives starts its code server again. Each by itself, since
        # the code server outlives `dagster dev` by up to 45 s.
        family = [self._process, *self._process.children(recursive=True)]
        for process in family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(family, timeout=10)
        self._client.close()
        self._log.close()

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that GraphQL answers."""
        body = {"query": query, "variables": variables}
        answer = self._client.post("/graphql", json=body).raise_for_status().json()
        assert "errors" not in answer, answer
        return answer["data"]

    def partitions(self, asset: str) -> list[str]:
        """The connections that the UI offers for an asset such as `kinto/contacts`."""
        found = self.ask(PARTITIONS, asset={"path": asset.split("/")})["assetNodeOrError"]
        return list(found.get("partitionKeys", []))

    def runs(self) -> list[dict[str, Any]]:
        """All runs, with their tags as a mapping."""
        results = self.ask(RUNS)["runsOrError"]["results"]
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in results
        ]

    def _is_loaded(self) -> bool:
        assert self._process.is_running(), Path(self._log.name).read_text(encoding="utf-8")
        try:
            loaded = self.ask(LOADED)
        except httpx.TransportError:
            return False
        return bool(loaded["repositoriesOrError"].get("nodes"))


def graph_url(url: str, groups: Iterable[str]) -> str:
    """The page of the asset graph, with these groups of assets open."""
    opened = ",".join(f"global@global:{group}" for group in groups)
    return f"{url}/asset-groups?{urlencode({'expanded': opened})}"


def wait_for(what: str, look: Callable[[], T], *, seconds: float) -> T:
    """The first true thing that `look` finds; fails if there's none in time."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"waited {seconds:g} s for {what}"
        time.sleep(0.25)
    return found
