"""Runs the endpoints service: `python -m services.endpoints`."""

from __future__ import annotations

import gc
import sys

import uvloop

from services.configuration.settings import SettingsError
from services.endpoints.app import run
from services.endpoints.settings import load_settings
from services.endpoints.telemetry.logs import configure_logs
from services.log_lines import LineWriter


def main() -> int:
    """Run the service by the environment's settings and return the process's exit code: 2 when these are wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        LineWriter(sys.stderr).msg(f"The endpoints service cannot start:\n{error}")
        return 2
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    # What is loaded by now stays: every search of it for garbage would hold all callers up for some 65 ms.
    gc.freeze()
    try:
        uvloop.run(run(settings))
    except OSError as error:
        LineWriter(sys.stderr).msg(f"The endpoints service cannot start: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
