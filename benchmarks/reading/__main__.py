"""Reading a million records over loopback: membrane, dlt, and the least code.

    python -m benchmarks.reading                                  # a quarter of an hour
    python -m benchmarks.reading --records 100000 --rounds 1      # to see that it works
    python -m benchmarks.reading --records 10000000 --pages 1000 --rounds 1 --peer-records 0

Each contender runs in a process of its own, by turns; the app is another. CPU is user and system
time of the contender, and of several rounds the least, which other work on the machine disturbed
the least. dlt reads fewer records, as it's slow; PEER is the folder of its environment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.servers import served

HERE = Path(__file__).parent

Figures = dict[str, float]
Contender = tuple[str, str, Path | str]
"""Its name, its script, and the Python that runs it."""

LEAST: Contender = ("least code", "least.py", sys.executable)
OURS: Contender = ("membrane", "ours.py", sys.executable)


def main() -> None:
    """Print a table for each size of page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, nargs="+", default=[1000, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-records", type=int, default=100_000, help="0 leaves dlt out")
    asked = parser.parse_args()
    theirs = environment() if asked.peer_records else None
    if theirs is None:
        print("dlt: not measured" + (" (couldn't be installed)" if asked.peer_records else ""))
    for page in asked.pages:
        print(f"\n{asked.records:,} records of about 500 bytes, pages of {page:,}")
        print(f"{'':28}{'rows':>11}{'CPU s':>9}{'µs/row':>9}{'rows/CPU-s':>12}{'s':>8}{'MB':>7}")
        found = read([LEAST, OURS], page, asked.records, asked.rounds)
        ours, least = rate(found["membrane"]), rate(found["least code"])
        print(f"membrane / least code, pages of {page:,}: {least / ours:.2f} times the CPU a row")
        if theirs is not None:
            peer = ("dlt rest_api", "theirs.py", theirs)
            found = read([peer], page, asked.peer_records, 1)
            times = ours / rate(found["dlt rest_api"])
            print(f"membrane reads {times:.1f} times as many rows in a CPU second as dlt")


def read(contenders: list[Contender], page: int, records: int, rounds: int) -> dict[str, Figures]:
    """A first reading, one with 1 % changed, one with nothing; gives the first, by contender."""
    steps = ("first", "1 % changed", "nothing changed")
    found: dict[tuple[str, str], list[Figures]] = {}
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as directory,
            served(HERE / "server.py", records) as url,
        ):
            for step in steps:
                if step == "1 % changed":
                    change(url)
                for name, script, python in contenders:
                    figures = run(script, url, page, directory, python)
                    found.setdefault((name, step), []).append(figures)
    best = {
        key: min(of, key=lambda one: one["cpu"]) | {"peak_mb": max(one["peak_mb"] for one in of)}
        for key, of in found.items()
    }
    for (name, step), figures in best.items():
        line(f"{name}, {step}", figures)
    return {name: best[name, "first"] for name, _, _ in contenders}


def rate(figures: Figures) -> float:
    """Rows in a CPU second."""
    return figures["rows"] / figures["cpu"]


def line(name: str, figures: Figures) -> None:
    """Print one line."""
    rows, cpu = max(figures["rows"], 1), figures["cpu"]
    print(
        f"{name:28}{figures['rows']:>11,.0f}{cpu:>9.2f}{cpu / rows * 1e6:>9.1f}"
        f"{rows / cpu:>12,.0f}{figures['wall']:>8.1f}{figures['peak_mb']:>7.0f}",
        flush=True,
    )


def run(script: str, url: str, page: int, directory: str, python: Path | str) -> Figures:
    """One contender in a process of its own."""
    command = [str(python), str(HERE / script), url, str(page), directory]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def change(url: str) -> None:
    """Change every hundredth record."""
    request: Any = urllib.request.Request(f"{url}/change", method="POST")
    urllib.request.urlopen(request, timeout=60).close()


if __name__ == "__main__":
    main()
