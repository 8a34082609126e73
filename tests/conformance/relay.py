"""A TCP relay whose connections can be cut, so that clients lose theirs."""

import asyncio
import contextlib
from urllib.parse import urlsplit


class Relay:
    """Stands before the server at `url`, on a port of its own; `async with` opens and closes it."""

    def __init__(self, url):
        self._target = urlsplit(url)
        self._writers = set()

    async def __aenter__(self):
        self._listener = await asyncio.start_server(self._link, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        self.url = self._target._replace(netloc=f"127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self.cut()

    def cut(self):
        """Resets every connection of this moment; new ones work."""
        for writer in self._writers:
            writer.transport.abort()

    async def _link(self, reader, writer):
        try:
            far = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far[1]}
        self._writers |= both
        await asyncio.gather(_forward(reader, far[1]), _forward(far[0], writer))
        self._writers -= both


async def _forward(reader, writer):
    # A connection that was cut ends here, like one that was closed.
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
