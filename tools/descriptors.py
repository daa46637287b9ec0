"""The contract as data: proto files compiled to descriptors that keep their comments."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from grpc_tools import protoc

ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"
PACKAGE_PREFIX: Final = "kongflow/v1/"

_WELL_KNOWN: Final = Path(protoc.__file__).parent / "_proto"
_GOOGLE_APIS: Final = Path(error_details_pb2.__file__).parents[2]


class GenerationError(Exception):
    """The protos could not be compiled; protoc has printed why."""


def proto_files() -> list[str]:
    """Return the contract's files, relative to the import root, sorted."""
    return sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))


def run_protoc(*options: str) -> None:
    """Run protoc over the whole contract.

    Raises:
        GenerationError: protoc refused.
    """
    arguments = ["protoc", f"-I{PROTOS}", f"-I{_WELL_KNOWN}", *options, *proto_files()]
    if protoc.main(arguments) != 0:
        raise GenerationError(f"protoc refused: {' '.join(options)}")


def compile_descriptors(*, include_source_info: bool, include_error_details: bool = False) -> bytes:
    """Return the serialized FileDescriptorSet of the contract with everything it imports.

    `include_error_details` adds the messages of google.rpc that errors are and carry, so that tools can show them.
    """
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "descriptors.binpb"
        options = [f"--descriptor_set_out={target}", "--include_imports"]
        if include_source_info:
            options.append("--include_source_info")
        if include_error_details:
            options += [f"-I{_GOOGLE_APIS}", "google/rpc/error_details.proto", "google/rpc/status.proto"]
        run_protoc(*options)
        return target.read_bytes()


def contract_files(serialized: bytes) -> list[FileDescriptorProto]:
    """Return the files of our own package in a serialized set, by name."""
    files = FileDescriptorSet.FromString(serialized).file
    return sorted((file for file in files if file.name.startswith(PACKAGE_PREFIX)), key=lambda file: file.name)
