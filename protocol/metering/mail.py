"""Letters between a meter and its head-end, left at their authority until the other side asks for them.

    request   a signed message of the stream "mail" (`protocol.message`), body [peer, letter, taken]
        peer      title of the other side; null asks who has written, and then the rest is null, too
        letter    left for the peer, in place of one that still waits there; null leaves none
        taken     name of the last letter from the peer, which is thrown away now; null takes none
    answer    [mailbox, letter/null], or [mailbox, [title, …]]: who has written
        mailbox   8 random bytes; other ones mean that all letters were lost
    letter    [signature certificate, key-agreement certificate, general-signing APDU/null]

A letter stays until its reader says that it has taken it, so neither a lost answer nor a crash loses one.
Every letter brings its writer's certificates: what is in between is trusted with delivery and nothing else.
One without an APDU introduces its writer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, cast

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.metering.title import SystemTitle

STREAM: Final = "mail"
"""Stream of the signed messages that carry requests; it is never published."""
MAX_LETTER_BYTES: Final = 3584
"""With its signature and names it fits a request (4 KiB); the longest of suite 2 has half of it."""
MAX_CERTIFICATE_BYTES: Final = 1024
MAX_ENVELOPE_BYTES: Final = 2048
MAX_WRITERS: Final = 512
"""Titles in one answer, 9 bytes each; who asks again after taking their letters hears of the others."""
NAME_BYTES: Final = 8
"""Length of a letter's name and of a mailbox's."""
_MAX_ANSWER_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Visit:
    """One leaves a letter for the other side, takes the last one, and asks for the next."""

    peer: SystemTitle
    letter: bytes | None = None
    taken: bytes | None = None
    """`name_of` the letter that need not be kept any longer."""

    def encode(self) -> bytes:
        """Return the body of the request."""
        return cbor.encode([self.peer.octets, self.letter, self.taken])


@dataclass(frozen=True, slots=True)
class WhoWrote:
    """Asks whose letters are waiting."""

    def encode(self) -> bytes:
        """Return the body of the request."""
        return cbor.encode([None, None, None])


Request = Visit | WhoWrote


@dataclass(frozen=True, slots=True)
class Delivery:
    """Answer to `Visit`."""

    mailbox: bytes
    letter: bytes | None
    """The letter that waits, if any; it comes again until it is `taken`."""

    def encode(self) -> bytes:
        """Return the answer's bytes."""
        return cbor.encode([self.mailbox, self.letter])


@dataclass(frozen=True, slots=True)
class Writers:
    """Answer to `WhoWrote`."""

    mailbox: bytes
    titles: tuple[SystemTitle, ...]
    """At most `MAX_WRITERS`, those first who have waited longest."""

    def encode(self) -> bytes:
        """Return the answer's bytes."""
        return cbor.encode([self.mailbox, [title.octets for title in self.titles]])


@dataclass(frozen=True, slots=True)
class Letter:
    """What one side writes to the other; nothing in it is verified."""

    signature_certificate: bytes
    """C509, of the key that signs the envelope and the ephemeral keys."""
    agreement_certificate: bytes
    """C509, of the same holder."""
    envelope: bytes | None = None
    """General-signing APDU of a rollover."""

    def encode(self) -> bytes:
        """Return the letter's bytes."""
        return cbor.encode([self.signature_certificate, self.agreement_certificate, self.envelope])


def name_of(letter: bytes) -> bytes:
    """Return by what a letter is named: the first 8 bytes of its SHA-256."""
    return sha256(letter).digest()[:NAME_BYTES]


def decode_request(body: bytes) -> Request:
    """Return the request in `body`; MalformedMessage if there is none, and nothing else leaves it."""
    match cbor.decode_array(body, 3):
        case [None, None, None]:
            return WhoWrote()
        case [bytes(peer), (bytes() | None) as letter, (bytes() | None) as taken]:
            if letter is not None and not 0 < len(letter) <= MAX_LETTER_BYTES:
                raise MalformedMessage(f"a letter has 1 to {MAX_LETTER_BYTES} bytes")
            if taken is not None:
                _check_name(taken)
            return Visit(SystemTitle(peer), letter, taken)
        case _:
            raise MalformedMessage("mail is asked for by [peer, letter, taken]")


def decode_delivery(data: bytes) -> Delivery:
    """Return the answer to a `Visit`; MalformedMessage if it is none, and nothing else leaves it."""
    match cbor.decode_array(data, 2, max_bytes=_MAX_ANSWER_BYTES):
        case [bytes(mailbox), (bytes() | None) as letter]:
            _check_name(mailbox)
            return Delivery(mailbox, letter)
        case _:
            raise MalformedMessage("not a delivery")


def decode_writers(data: bytes) -> Writers:
    """Return the answer to a `WhoWrote`; MalformedMessage if it is none, and nothing else leaves it."""
    mailbox, found = cbor.decode_array(data, 2, max_bytes=_MAX_ANSWER_BYTES)
    if type(mailbox) is not bytes or type(found) is not list:
        raise MalformedMessage("not a list of writers")
    titles = cast("list[object]", found)
    if len(titles) > MAX_WRITERS:
        raise MalformedMessage(f"at most {MAX_WRITERS} writers are told at a time")
    _check_name(mailbox)
    return Writers(mailbox, tuple(_titles(titles)))


def decode_letter(data: bytes) -> Letter:
    """Return the letter in `data`; MalformedMessage if there is none, and nothing else leaves it."""
    match cbor.decode_array(data, 3):
        case [bytes(signature), bytes(agreement), (bytes() | None) as envelope]:
            certificates_fit = max(len(signature), len(agreement)) <= MAX_CERTIFICATE_BYTES
            if not certificates_fit or (envelope is not None and len(envelope) > MAX_ENVELOPE_BYTES):
                raise MalformedMessage("a letter with too long a part")
            return Letter(signature, agreement, envelope)
        case _:
            raise MalformedMessage("not a letter")


def _titles(items: Iterable[object]) -> Iterable[SystemTitle]:
    for item in items:
        if not isinstance(item, bytes):
            raise MalformedMessage("a system title is a byte string")
        yield SystemTitle(item)


def _check_name(name: bytes) -> None:
    if len(name) != NAME_BYTES:
        raise MalformedMessage(f"a name has {NAME_BYTES} bytes")
