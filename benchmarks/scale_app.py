"""An app on loopback that answers at once: 20 collections for any number of accounts.

    python benchmarks/scale_app.py      # prints its port, then serves until it's killed

Each account has two records in each collection. `POST /cycle?share=S` begins a cycle in which that
share of all collections has one changed record. It knows nothing of membrane_sync.
"""

import asyncio
import json
import zlib
from urllib.parse import parse_qs, urlsplit

cycle = 1
share = 1.0


def answer(path: str, query: str) -> bytes:
    """Records newer than `since`."""
    since = int(parse_qs(query).get("since", ["0"])[0])
    _, account, collection = path.split("/")
    changed = zlib.crc32(f"{account}/{collection}/{cycle}".encode()) % 10_000 < share * 10_000
    items = []
    if since < 1:
        items = [record(account, number, 1) for number in range(2)]
    elif cycle > 1 and changed and since < cycle:
        items = [record(account, 0, cycle)]
    return json.dumps({"items": items}).encode()


def record(account: str, number: int, version: int) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "version": version,
        "email": f"person.{number}@customer.example",
        "name": f"Person {number} of {account}, version {version}",
        "score": version,
    }


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global cycle, share
    try:
        while line := await reader.readline():
            method, target, _ = line.decode().split()
            while (await reader.readline()).strip():
                pass
            parts = urlsplit(target)
            body = b"{}"
            if method == "POST":
                cycle, share = cycle + 1, float(parse_qs(parts.query)["share"][0])
            else:
                body = answer(parts.path, parts.query)
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
