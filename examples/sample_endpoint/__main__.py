"""Runs the sample endpoint: `TRIGGER_API_KEY=… PORT=3030 python -m examples.sample_endpoint`.

PORT 0, the default, takes a free one. Once it listens it prints one line: `greenhouse listening on <endpoint url>`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from aiohttp import web

from examples.sample_endpoint.app import PATH, SLUG, sample_endpoint

HOST = "127.0.0.1"


async def serve(*, api_key: str, port: int) -> None:
    """Serve the sample endpoint on loopback until SIGTERM or SIGINT comes."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(sample_endpoint(api_key=api_key), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        host, bound_port = runner.addresses[0][:2]
        sys.stdout.write(f"{SLUG} listening on http://{host}:{bound_port}{PATH}\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    """Read the environment, serve, and return the exit code."""
    api_key = os.environ.get("TRIGGER_API_KEY", "")
    if not api_key:
        sys.stderr.write("Set TRIGGER_API_KEY to the environment's API key, such as `cat .kongflow/api-key` prints.\n")
        return 2
    asyncio.run(serve(api_key=api_key, port=int(os.environ.get("PORT", "0"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
