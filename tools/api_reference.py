"""Renders `docs/api.md` from the comments of the protos."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, MethodOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        EnumDescriptorProto,
        FileDescriptorProto,
        MethodDescriptorProto,
        ServiceDescriptorProto,
    )

_INTRODUCTION: Final = """\
# API reference: `kongflow.v1`

Generated from `protos/kongflow/v1` by `make generate`; edit the protos, not this page.

Every call but those of `grpc.health.v1` sends `authorization: Bearer <key or token>`. Ids are UUIDs. Times are in the
database's clock. Customer JSON travels as text in fields whose names end in `_json`, so that no number changes.
An enum's zero value is never stored. Every error that KongFlow raises carries a `google.rpc.ErrorInfo`; see
[errors](#errors).
"""

_ERROR_ENUM: Final = "ErrorReason"
_SCALARS: Final = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in FieldDescriptorProto.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_IDEMPOTENCY: Final = {
    MethodOptions.NO_SIDE_EFFECTS: "reads only",
    MethodOptions.IDEMPOTENT: "idempotent",
    MethodOptions.IDEMPOTENCY_UNKNOWN: "not idempotent by itself",
}

# Field numbers within the descriptors themselves, by which source locations name what they describe.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _ENUM_VALUES, _SERVICE_METHODS = 2, 2, 2


@dataclass(slots=True)
class _Contract:
    """Every described thing with its comment, by name."""

    services: list[tuple[ServiceDescriptorProto, str, list[str]]] = field(default_factory=list)
    messages: dict[str, tuple[DescriptorProto, str, list[str]]] = field(default_factory=dict)
    enums: dict[str, tuple[EnumDescriptorProto, str, list[str]]] = field(default_factory=dict)


def render_api_reference(files: Iterable[FileDescriptorProto]) -> str:
    """Return the reference as Markdown: services and their methods, then resources, enums and errors."""
    contract = _collect(files)
    spoken = _request_and_response_names(contract)
    lines = [_INTRODUCTION, "## Services", ""]
    lines += [f"- [{service.name}](#{service.name.lower()}): {_first(text)}" for service, text, _ in contract.services]
    lines.append("")
    for service, text, method_texts in contract.services:
        lines += _render_service(service, text, method_texts, contract)
    lines += ["## Messages", ""]
    for name in sorted(contract.messages.keys() - spoken):
        lines += [f"### {name}", "", contract.messages[name][1], "", *_render_fields(contract, name), ""]
    lines += ["## Enums", ""]
    for name in sorted(contract.enums.keys() - {_ERROR_ENUM}):
        lines += _render_enum(f"### {name}", *contract.enums[name])
    lines += _render_enum("## Errors", *contract.enums[_ERROR_ENUM])
    return "\n".join(lines).rstrip() + "\n"


def _collect(files: Iterable[FileDescriptorProto]) -> _Contract:
    contract = _Contract()
    for file in files:
        texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for index, message in enumerate(file.message_type):
            path = (_FILE_MESSAGES, index)
            parts = _texts_of(texts, (*path, _MESSAGE_FIELDS), len(message.field))
            contract.messages[message.name] = (message, _prose(texts.get(path, "")), parts)
        for index, enum in enumerate(file.enum_type):
            path = (_FILE_ENUMS, index)
            parts = _texts_of(texts, (*path, _ENUM_VALUES), len(enum.value))
            contract.enums[enum.name] = (enum, _prose(texts.get(path, "")), parts)
        for index, service in enumerate(file.service):
            path = (_FILE_SERVICES, index)
            parts = _texts_of(texts, (*path, _SERVICE_METHODS), len(service.method))
            contract.services.append((service, _prose(texts.get(path, "")), parts))
    return contract


def _texts_of(texts: Mapping[tuple[int, ...], str], prefix: tuple[int, ...], count: int) -> list[str]:
    return [_prose(texts.get((*prefix, index), "")) for index in range(count)]


def _prose(comment: str) -> str:
    """Return a comment with its lines joined and its paragraphs kept apart."""
    paragraphs = "\n".join(line.strip() for line in comment.strip().splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.splitlines()) for paragraph in paragraphs)


def _first(text: str) -> str:
    return text.split("\n\n", maxsplit=1)[0]


def _request_and_response_names(contract: _Contract) -> set[str]:
    methods = [method for service, _, _ in contract.services for method in service.method]
    return {_short(name) for method in methods for name in (method.input_type, method.output_type)}


def _render_service(
    service: ServiceDescriptorProto, text: str, method_texts: Sequence[str], contract: _Contract
) -> list[str]:
    lines = [f"## {service.name}", "", text, ""]
    for method, method_text in zip(service.method, method_texts, strict=True):
        lines += _render_method(service.name, method, method_text, contract)
    return lines


def _render_method(service: str, method: MethodDescriptorProto, text: str, contract: _Contract) -> list[str]:
    stream = ", server stream" if method.server_streaming else ""
    level = _IDEMPOTENCY[method.options.idempotency_level]
    lines = [
        f"### {service}.{method.name}",
        "",
        f"`kongflow.v1.{service}/{method.name}` ({level}{stream})",
        "",
        text,
        "",
    ]
    for title, name in (("Request", _short(method.input_type)), ("Response", _short(method.output_type))):
        lines += [f"**{title}** `{name}`", "", *_render_fields(contract, name), ""]
    return lines


def _render_fields(contract: _Contract, name: str) -> list[str]:
    message, _, texts = contract.messages[name]
    if not message.field:
        return ["No fields."]
    rows = ["| # | field | type | meaning |", "|---|---|---|---|"]
    for described, text in zip(message.field, texts, strict=True):
        group = ""
        if described.HasField("oneof_index"):
            group = f"One of `{message.oneof_decl[described.oneof_index].name}`. "
        rows.append(f"| {described.number} | `{described.name}` | {_type_of(described)} | {group}{_cell(text)} |")
    return rows


def _render_enum(heading: str, enum: EnumDescriptorProto, text: str, texts: Sequence[str]) -> list[str]:
    rows = [
        f"| {value.number} | `{value.name}` | {_cell(words)} |" for value, words in zip(enum.value, texts, strict=True)
    ]
    return [heading, "", text, "", "| # | value | meaning |", "|---|---|---|", *rows, ""]


def _type_of(described: FieldDescriptorProto) -> str:
    repeated = "repeated " if described.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if described.type in _SCALARS:
        return f"{repeated}{_SCALARS[described.type]}"
    name = _short(described.type_name)
    if described.type_name.startswith(".kongflow."):
        return f"{repeated}[{name}](#{name.lower()})"
    return f"{repeated}{name}"


def _cell(text: str) -> str:
    return text.replace("\n\n", "<br>").replace("|", "\\|")


def _short(name: str) -> str:
    return name.rsplit(".", maxsplit=1)[-1]
