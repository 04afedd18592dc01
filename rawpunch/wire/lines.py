"""Protocols of one JSON object a line: what their messages have in common, and how they are written and read.

Whatever the octets, reading them gives a value or raises `Malformed`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Self, TypeVar

import msgspec
from msgspec import Meta, Struct

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint

_LONGEST_ENDPOINT: Final = 80
_T = TypeVar("_T")


class Value(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a message holds; fields that have their default are left out of the line."""

    @classmethod
    def of_document(cls, document: object) -> Self:
        """The value that JSON, already read, spells.

        Raises:
            Malformed: it is none.
        """
        try:
            return msgspec.convert(document, cls, dec_hook=_read)
        except msgspec.ValidationError as error:
            raise Malformed(f"that is no {cls.__name__.lower()}", why=str(error)) from error

    def document(self) -> dict[str, Any]:
        """As JSON has it, fields with their default left out."""
        found: dict[str, Any] = msgspec.to_builtins(self, enc_hook=_text)
        return found


class Line(Value, frozen=True, kw_only=True):
    """A message: a request or an answer."""

    id: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    """The request's number, chosen by who asks; 0 for what is said unasked."""

    def numbered(self, number: int) -> Self:
        """The same message with a request's number."""
        return msgspec.structs.replace(self, id=number)

    @property
    def tag(self) -> str:
        """Which message it is, as the line says."""
        return str(self.__struct_config__.tag)


class RequestLine(Line, frozen=True, tag_field="do", tag=str.lower):
    """What is asked; the line names it in `do`."""


class AnswerLine(Line, frozen=True, tag_field="is", tag=str.lower):
    """What is answered, or said unasked; the line names it in `is`."""


class Protocol(Generic[_T]):
    """Reads lines that are one of several messages.

    Args:
        messages: the union of them.
        most: octets that a line may have.
    """

    def __init__(self, messages: Any, most: int) -> None:
        self._decoder: msgspec.json.Decoder[_T] = msgspec.json.Decoder(messages, dec_hook=_read)
        self._most = most

    def parse(self, line: bytes) -> _T:
        """The message in a line, with or without its newline.

        Raises:
            Malformed: it is none of them, or too long.
        """
        if len(line) > self._most:
            raise Malformed(f"a line of {len(line)} octets is longer than {self._most}")
        try:
            return self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed("a line that is no message of this protocol", why=str(error)[:200]) from error


def _text(given: Any) -> str:
    if isinstance(given, Endpoint):
        return str(given)
    raise TypeError(f"{type(given).__name__} does not go into a line")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_text)


def encode_line(line: Line) -> bytes:
    """A message as a line, newline included."""
    return _ENCODER.encode(line) + b"\n"


def _read(kind: type[Any], given: Any) -> Endpoint:
    if not isinstance(given, str) or len(given) > _LONGEST_ENDPOINT or "%" in given:
        raise Malformed(f"{kind.__name__} is text, ADDRESS:PORT")
    return Endpoint.parse(given)
