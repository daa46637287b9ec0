"""Renews the image of the released contract, against which `buf breaking` compares.

Run `python -m tools.released` as part of a release and at no other time: comparing a tree with itself finds nothing.
"""

from __future__ import annotations

import sys
from typing import Final

from tools.descriptors import PROTOS, compile_descriptors

RELEASED_IMAGE: Final = PROTOS / "released.binpb"


def main() -> int:
    """Write the image without comments; returns the exit code."""
    RELEASED_IMAGE.write_bytes(compile_descriptors(include_source_info=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
