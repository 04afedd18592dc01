"""Protocols of one JSON object a line: what their messages have in common, and how they are written and read.

Whatever the octets, reading them gives a value or raises `Malformed`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from rawpunch.errors import Malformed
from rawpunch.wire.endpoint import Endpoint

_LONGEST_ENDPOINT: Final = 80
_T = TypeVar("_T")


def _endpoint(given: Any) -> Endpoint:
    if isinstance(given, Endpoint):
        return given
    if not isinstance(given, str) or len(given) > _LONGEST_ENDPOINT or "%" in given:
        raise Malformed("an endpoint is text, ADDRESS:PORT")
    return Endpoint.parse(given)


EndpointText = Annotated[Endpoint, PlainValidator(_endpoint), PlainSerializer(str)]
"""An endpoint, spelt ``192.0.2.1:80`` in the line."""


class Line(BaseModel):
    """A message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: int = Field(default=0, ge=0, lt=2**53)
    """The request's number, chosen by who asks; 0 for what is said unasked."""


def encode_line(line: Line) -> bytes:
    """A message as a line, newline included."""
    return line.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


def parse_line(adapter: TypeAdapter[_T], line: bytes, most: int) -> _T:
    """The message in a line.

    Args:
        adapter: the messages that there are.
        line: with or without its newline.
        most: octets that it may have.

    Raises:
        Malformed: it is none of them, or too long.
    """
    if len(line) > most:
        raise Malformed(f"a line of {len(line)} octets is longer than {most}")
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Malformed("a line that is no message of this protocol", why=f"{where}: {first['msg']}"[:200]) from error
