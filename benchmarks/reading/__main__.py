"""Reading a million records over loopback: membrane, dlt, and the least code.

`python -m benchmarks.reading`; RECORDS (1,000,000), PAGES ("1000,100"), PEER_RECORDS (100,000), how
many dlt reads, and PEER, the folder of dlt's environment, are environment variables. Each contender
runs in a process of its own; the app is another. CPU is user and system time of the contender.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.peers import environment
from benchmarks.servers import served

HERE = Path(__file__).parent
RECORDS = int(os.environ.get("RECORDS", "1000000"))
PEER_RECORDS = int(os.environ.get("PEER_RECORDS", "100000"))
PAGES = [int(page) for page in os.environ.get("PAGES", "1000,100").split(",")]

Figures = dict[str, float]


def main() -> None:
    """Print a table for each size of page."""
    theirs = environment()
    if theirs is None:
        print("dlt: not measured (couldn't be installed)")
    for page in PAGES:
        print(f"\n{RECORDS:,} records of about 500 bytes, pages of {page:,}")
        print(f"{'':28}{'rows':>11}{'CPU s':>9}{'µs/row':>9}{'rows/CPU-s':>12}{'s':>8}{'MB':>7}")
        ours, least = compared(page, RECORDS)
        ratio(f"membrane / least code, pages of {page:,}", ours, least)
        if theirs is not None:
            compare_with(theirs, page, ours)


def compared(page: int, records: int) -> tuple[Figures, Figures]:
    """Ours and the least code: a first reading, and one with 1 % changed; gives the first ones."""
    with tempfile.TemporaryDirectory() as directory, served(HERE / "server.py", records) as url:
        least = line("least code, first", run("least.py", url, page, directory))
        ours = line("membrane, first", run("ours.py", url, page, directory))
        change(url)
        line("least code, 1 % changed", run("least.py", url, page, directory))
        line("membrane, 1 % changed", run("ours.py", url, page, directory))
        line("membrane, nothing changed", run("ours.py", url, page, directory))
    return ours, least


def compare_with(python: Path, page: int, ours: Figures) -> None:
    """The peer on fewer records, as it's slow; its rate is what counts."""
    with (
        tempfile.TemporaryDirectory() as directory,
        served(HERE / "server.py", PEER_RECORDS) as url,
    ):
        peer = line("dlt rest_api, first", run("theirs.py", url, page, directory, python))
        change(url)
        line("dlt rest_api, 1 % changed", run("theirs.py", url, page, directory, python))
    rate = (ours["rows"] / ours["cpu"]) / (peer["rows"] / peer["cpu"])
    print(f"membrane reads {rate:.1f} times as many rows in a CPU second as dlt")


def line(name: str, figures: Figures) -> Figures:
    """Print one line."""
    rows, cpu = max(figures["rows"], 1), figures["cpu"]
    print(
        f"{name:28}{figures['rows']:>11,.0f}{cpu:>9.2f}{cpu / rows * 1e6:>9.1f}"
        f"{rows / cpu:>12,.0f}{figures['wall']:>8.1f}{figures['peak_mb']:>7.0f}",
        flush=True,
    )
    return figures


def ratio(name: str, ours: Figures, least: Figures) -> None:
    """Print how many times the CPU of the least code it takes, row for row."""
    times = (ours["cpu"] / ours["rows"]) / (least["cpu"] / least["rows"])
    print(f"{name}: {times:.2f} times the CPU a row")


def run(
    script: str, url: str, page: int, directory: str, python: Path | str = sys.executable
) -> Figures:
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
