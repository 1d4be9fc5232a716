#!/usr/bin/env python3
"""Carries TCP connections: `forward.py FROM TO`, each `address:port`. Whoever starts it ends it."""

import asyncio
import sys


def place(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def carry(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(here, there):
    async def connected(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(*place(there))
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    server = await asyncio.start_server(connected, *place(here))
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
