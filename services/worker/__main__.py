"""Runs the worker: `python -m services.worker`."""

from __future__ import annotations

import gc
import sys

import uvloop

from services.configuration.settings import SettingsError
from services.log_lines import LineWriter
from services.worker.app import run
from services.worker.logging import configure_logging
from services.worker.settings import load_settings


def main() -> int:
    """Run the worker by the environment's settings and return the process's exit code: 2 when these are wrong."""
    try:
        settings = load_settings()
    except SettingsError as error:
        LineWriter(sys.stderr).msg(f"The worker cannot start:\n{error}")
        return 2
    configure_logging(settings.log_level)
    # What is loaded by now stays, and need not be searched for garbage.
    gc.freeze()
    try:
        uvloop.run(run(settings))
    except OSError as error:
        LineWriter(sys.stderr).msg(f"The worker cannot start: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
