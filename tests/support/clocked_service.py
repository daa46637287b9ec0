"""Runs a service whose own clock is wrong: `python -m tests.support.clocked_service <seconds ahead> <module>`.

Wrong are the nanoseconds since the epoch, of which the service makes its ids and the order of its messages; every ten
seconds they step to the other side. Timers follow the monotonic clock, as they do on a real machine whose wall clock
steps, and so do gRPC's deadlines.
"""

from __future__ import annotations

import runpy
import sys
import time
from datetime import timedelta

_STEPS_EVERY = timedelta(seconds=10)


def main() -> None:
    """Patch the clock and run the module."""
    ahead, module = float(sys.argv[1]), sys.argv[2]
    began = time.monotonic()
    right = time.time_ns

    def wrong() -> int:
        steps = int((time.monotonic() - began) / _STEPS_EVERY.total_seconds())
        return right() + int((ahead if steps % 2 == 0 else -ahead) * 1e9)

    time.time_ns = wrong
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
