"""Generates what follows from the protos (code, stubs, protoset, API reference) and from the settings classes.

Run `python -m tools.generate` to write, with `--check` to compare what is committed with what would be written.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from tools.api_reference import render_api_reference
from tools.configuration_reference import render_configuration_reference, render_keys
from tools.descriptors import ROOT, compile_descriptors, contract_files, run_protoc
from tools.service_config import render_service_config

PROTOSET: Final = "gen/kongflow.protoset"
API_REFERENCE: Final = "docs/api.md"
CONFIGURATION_REFERENCE: Final = "docs/configuration.md"
CONFIGURATION_KEYS: Final = "services/configuration/keys.py"

SERVICE_CONFIG: Final = "gen/kongflow/v1/service_config.json"

_PACKAGES: Final = {
    "gen/kongflow/__init__.py": '"""The contract of KongFlow, generated from the protos."""\n',
    "gen/kongflow/v1/__init__.py": '"""Messages and stubs of `kongflow.v1`, generated from the protos."""\n',
    "gen/kongflow/py.typed": "",
}


def generate(target: Path) -> None:
    """Write every generated file below `target`, which has the layout of the repository."""
    code = target / "gen"
    code.mkdir(parents=True, exist_ok=True)
    scripts = Path(sysconfig.get_path("scripts"))
    run_protoc(
        *(f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")),
        f"--python_out={code}",
        f"--grpc_python_out={code}",
        f"--mypy_out=quiet:{code}",
        f"--mypy_grpc_out=quiet:{code}",
    )
    for name, text in _PACKAGES.items():
        _write(target / name, text.encode())
    described = compile_descriptors(include_source_info=True, include_error_details=True)
    _write(target / PROTOSET, described)
    _write(target / API_REFERENCE, render_api_reference(contract_files(described)).encode())
    _write(target / SERVICE_CONFIG, render_service_config(contract_files(described)).encode())
    _write(target / CONFIGURATION_REFERENCE, render_configuration_reference().encode())
    _write(target / CONFIGURATION_KEYS, render_keys().encode())


def stale_files(fresh: Path, committed: Path) -> list[str]:
    """Return the names of generated files that differ, are missing or should not be there, sorted."""
    wanted, present = _generated(fresh), _generated(committed)
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when something is stale")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        stale = stale_files(fresh, ROOT)
        if options.check:
            for name in stale:
                sys.stderr.write(f"stale: {name} (run `make generate`)\n")
            return 1 if stale else 0
        wanted = _generated(fresh)
        for name in stale:
            if name in wanted:
                _write(ROOT / name, wanted[name])
            else:
                (ROOT / name).unlink()
    return 0


def _generated(root: Path) -> dict[str, bytes]:
    paths = [path for path in (root / "gen").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    others = (API_REFERENCE, CONFIGURATION_REFERENCE, CONFIGURATION_KEYS)
    paths += [path for path in (root / name for name in others) if path.exists()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
