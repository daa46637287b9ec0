from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools.descriptors import ROOT
from tools.generate import API_REFERENCE, PROTOSET, generate, main, stale_files

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_committed_is_what_the_protos_say() -> None:
    assert main(["--check"]) == 0


def test_a_changed_a_missing_and_a_foreign_file_are_all_stale(tmp_path: Path) -> None:
    generate(tmp_path)
    assert stale_files(tmp_path, ROOT) == []
    (tmp_path / API_REFERENCE).write_text("other")
    (tmp_path / PROTOSET).unlink()
    (tmp_path / "gen" / "kongflow" / "extra.py").write_text("")
    assert stale_files(tmp_path, ROOT) == [API_REFERENCE, PROTOSET, "gen/kongflow/extra.py"]


def test_the_protoset_carries_the_comments() -> None:
    files = FileDescriptorSet.FromString((ROOT / PROTOSET).read_bytes()).file
    contract = [file for file in files if file.name.startswith("kongflow/")]
    comments = [place.leading_comments for file in contract for place in file.source_code_info.location]
    assert any("pings it, stores it" in comment for comment in comments)


def test_the_reference_describes_every_method() -> None:
    text = (ROOT / API_REFERENCE).read_text()
    files = FileDescriptorSet.FromString((ROOT / PROTOSET).read_bytes()).file
    for file in files:
        for service in file.service:
            for method in service.method:
                assert f"### {service.name}.{method.name}\n" in text
