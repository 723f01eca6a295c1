"""Events, from a request that tells of them to the product's database.

    python -m benchmarks.events intake [sqlite|postgresql ...] [--seconds N]
    python -m benchmarks.events latency [worker|sensor ...] [--events N]
    python -m benchmarks.events drain [sqlite|postgresql] [--events N] [--connections N] [--hot S]

Without a name it runs all three, with fewer events than they have by themselves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.events import drain, intake, latency

EVERYTHING = (
    ["intake"],
    ["latency", "worker", "--events", "10"],
    ["drain", "--events", "50000", "--connections", "50"],
)


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=["intake", "latency", "drain"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    parts = {"intake": intake, "latency": latency, "drain": drain}
    if given.name:
        parts[given.name].main(given.arguments)
        return
    # In processes of their own: each sets the environment for its project.
    for arguments in EVERYTHING:
        subprocess.run([sys.executable, "-m", "benchmarks.events", *arguments], check=True)


if __name__ == "__main__":
    main()
