"""Requests that no careful caller would send, made from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from google.protobuf.descriptor import Descriptor

TEXTS: Final = (
    *("", " ", "a", "a" * 257, "\x00", "\x7f", "\ufeff{}", "\u202e", "\U0001f680" * 100, "'); drop table endpoints;--"),
    *(
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "http://127.0.0.1:9/",
        "http://[",
    ),
    *(
        "{}",
        "[]",
        "null",
        "{",
        '{"a":[{"$gt":1}]}',
        '{"a":NaN}',
        "1e400",
        "[" * 70,
        '{"a":"\\ud800"}',
        '{"a":"\\u0000"}',
    ),
    *('{"url":"/","method":"GET","headers":{},"rawBody":"{"}', "*", "%", "latest", "1.0.0", "endpoint-x", "AAAA"),
)
NUMBERS: Final = (0, 1, -1, 2, 7, 99, 1000, 2**31 - 1, -(2**31))
LARGE_NUMBERS: Final = (*NUMBERS, 2**63 - 1, -(2**63), 253_402_300_800, 1_900_000_000)
ODD_VALUES: Final[Mapping[int, tuple[Any, ...]]] = {
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_ENUM: (*range(5), 99, -1),
    FieldDescriptor.CPPTYPE_INT32: NUMBERS,
    FieldDescriptor.CPPTYPE_INT64: LARGE_NUMBERS,
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -1.0, float("nan"), float("inf"), 1e300),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, -1.0, float("nan"), float("inf")),
}
_MOST_ELEMENTS: Final = 3
_DEEPEST: Final = 4


def fuzzed_request(random: Random, descriptor: Descriptor, known: Sequence[str]) -> bytes:
    """Return the bytes of a request: noise, a message of odd values, or one of those with bytes changed.

    `known` are ids of what there is, so that calls come further than their first look-up.
    """
    kind = random.randrange(8)
    if kind == 0:
        return random.randbytes(random.randrange(64))
    raw = bytearray(_message(random, descriptor, known, 0).SerializeToString())
    if kind == 1 and raw:
        for _ in range(random.randint(1, 4)):
            raw[random.randrange(len(raw))] = random.randrange(256)
    if kind == 2:
        del raw[random.randrange(len(raw) + 1) :]
    return bytes(raw)


def _message(random: Random, descriptor: Descriptor, known: Sequence[str], depth: int) -> Any:
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if random.random() < 1 / 3 or (field.message_type is not None and depth == _DEEPEST):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        many = random.randrange(_MOST_ELEMENTS + 1) if field.is_repeated else 1
        values = [_value(random, field, known, depth) for _ in range(many)]
        if field.message_type is not None and not field.is_repeated:
            getattr(message, field.name).CopyFrom(values[0])
        elif field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])
    return message


def _value(random: Random, field: FieldDescriptor, known: Sequence[str], depth: int) -> Any:
    if field.message_type is not None:
        return _message(random, field.message_type, known, depth + 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(known) if random.random() < 1 / 2 else random.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    return random.choice(ODD_VALUES.get(field.cpp_type, (0, 1, 2**31)))
