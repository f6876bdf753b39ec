"""What the server's taking of events is measured against: the least that a Python web server does with a body.

    python bench/bare.py answer FILE    reads it, counts its lines, and answers
    python bench/bare.py store FILE     appends it to a file and calls fsync before it answers

Starlette on uvicorn, with uvloop and httptools, nothing written down about requests. Prints `ready: URL`.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(how: str, path: str) -> Starlette:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def store(body: bytes) -> None:
        os.write(file, body)
        os.fsync(file)

    async def events(request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if how == "store":
            # in a thread: the others' requests are read meanwhile
            await asyncio.to_thread(store, body)
        return Response(b'{"accepted":%d}' % (body.count(b"\n") or 1), media_type="application/json")

    return Starlette(routes=[Route("/v1/streams/logins/events", events, methods=["POST"])])


def main() -> None:
    how, path = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"ready: http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        application(how, path), loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off"
    )
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
