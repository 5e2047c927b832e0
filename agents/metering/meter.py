"""The meter's side at work: it asks for its head-end's letters, follows the rollover, and answers.

    state/metering/rollover    [1, head-end's title, introduction, state], encrypted as the meter's keys are

    keys = await MeterKeys.open(device, head_end)
    await keys.poll(transport)      # now and then: once an hour, a day

What a letter asks for is on disk before it is answered, and it is thrown away at the mailbox with the answer:
whatever is lost and wherever the power fails, the same letter comes again and gets the same answer.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from agents.devices.agent import Device, DeviceError
from agents.devices.bearer import Bearer
from agents.devices.cabinet import Cabinet, CabinetError
from agents.metering import carrier
from agents.metering.parties import Own, Party, party_of, read_peer
from protocol import cbor
from protocol.errors import MalformedMessage, RequestRejected
from protocol.metering import envelope
from protocol.metering.agreement import GREEN_BOOK, KdfSettings
from protocol.metering.keys import KeySet
from protocol.metering.mail import Letter, Visit, decode_letter, name_of
from protocol.metering.rollover import (
    Done,
    Ignored,
    Meter,
    MeterState,
    Refused,
    Send,
    Store,
    decode_meter,
    encode_meter,
)
from protocol.metering.rollover_state import MAX_STATE_BYTES
from protocol.metering.title import SystemTitle
from protocol.ports import DeviceTransport

FOLDER: Final = "metering"
"""Name of the folder in the state folder, for either side."""
MAX_TURNS: Final = 12
"""Questions in one poll. A whole rollover takes five; a head-end that goes on is at fault."""
_FILE: Final = "rollover"
_INTRODUCTION_BYTES: Final = 16

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeterRecord:
    """What a meter has on disk about its keys."""

    head_end: SystemTitle
    introduced: bytes = b""
    """Digest of the mailbox and the certificates with which the meter introduced itself last."""
    state: MeterState = MeterState(KeySet(0, {}))  # noqa: RUF009 (frozen)

    def encode(self) -> bytes:
        """Return the file's content; it holds keys in clear."""
        return cbor.encode([1, self.head_end.octets, self.introduced, encode_meter(self.state)])

    @classmethod
    def decode(cls, data: bytes) -> "MeterRecord":
        """Return the record in `data`; MalformedMessage if there is none."""
        item: Any = cbor.decode(data, max_bytes=2 * MAX_STATE_BYTES)
        match item:
            case [1, bytes(head_end), bytes(introduced), bytes(state)]:
                return cls(SystemTitle(head_end), introduced, decode_meter(state))
            case _:
                raise MalformedMessage("not a meter's record")


@dataclass(frozen=True, slots=True)
class Poll:
    """What came of one poll."""

    generation: int
    """Of the keys in use now; 0: none were agreed on yet."""
    has_new_keys: bool
    refused: tuple[Refused, ...]
    """What the meter would not have."""


class MeterKeys:
    """A meter's keys for every day, and the head-end that they are shared with. Use `open`.

    Args:
        device: Open as long as this is used.
        party: What it is.
        cabinet: Where the keys are.
        record: As it was last stored.
        settings: What the key derivation leaves in doubt; the head-end's are the same.
    """

    def __init__(
        self,
        device: Device,
        party: Party,
        cabinet: Cabinet,
        record: MeterRecord,
        settings: KdfSettings = GREEN_BOOK,
    ) -> None:
        self._device = device
        self._party = party
        self._cabinet = cabinet
        self._record = record
        self._settings = settings
        self._refused: list[Refused] = []

    @classmethod
    async def open(
        cls, device: Device, head_end: SystemTitle | None = None, *, settings: KdfSettings = GREEN_BOOK
    ) -> "MeterKeys":
        """Read what a meter has.

        Args:
            device: A meter.
            head_end: Whom it listens to from now on, and to nobody else; None: as before.
            settings: As above.

        Raises:
            DeviceError: No meter, or no head-end was ever named.
            CabinetError: What is stored cannot be read.
        """
        party = party_of(device.identity, is_meter=True)
        cabinet, record = await device.lend(partial(_read, device.identity.device, head_end))
        return cls(device, party, cabinet, record, settings)

    @property
    def head_end(self) -> SystemTitle:
        """Whom the meter listens to."""
        return self._record.head_end

    @property
    def keys(self) -> KeySet:
        """What the meter uses; no keys at all before the first rollover."""
        return self._record.state.keys

    async def poll(self, transport: DeviceTransport) -> Poll:
        """Ask for letters and answer them until there is none.

        Raises:
            DeviceError: A certificate is missing.
            RequestRejected: The mailbox does not know the meter.
            ExchangeTimeout: Out of time; the next poll goes on.

        Cancellation: anywhere; the next poll goes on.
        """
        before = self.keys.generation
        self._refused.clear()
        revoked: Collection[bytes] | None = None
        own_letter = await self._device.lend(self._introduction)
        letter = taken = None
        for _ in range(MAX_TURNS):
            delivery = await carrier.visit(self._device, transport, Visit(self.head_end, letter, taken))
            introduction = _digest(delivery.mailbox, own_letter)
            if letter is not None:
                await self._note_introduction(introduction)
            letter = taken = None
            if delivery.letter is not None:
                if revoked is None:
                    # A key that was stolen from the head-end must not get an answer once that is known.
                    revoked = (await self._device.fetch_revocations(transport)).serials
                taken = name_of(delivery.letter)
                letter = await self._device.lend(
                    partial(self._take, delivery.letter, revoked),
                )
            elif self._record.introduced != introduction:
                letter = await self._device.lend(self._last_word)
            else:
                break
        return Poll(self.keys.generation, self.keys.generation != before, tuple(self._refused))

    def _introduction(self, bearer: Bearer) -> bytes:
        return self._own(bearer).letter()

    def _last_word(self, bearer: Bearer) -> bytes:
        """Return what the meter said last, in case it was lost: a head-end that has heard it ignores it."""
        reply = self._record.state.reply
        is_for_it = bool(reply) and envelope.decode(reply).recipient == self.head_end
        return self._own(bearer).letter(reply if is_for_it else None)

    def _own(self, bearer: Bearer) -> Own:
        return Own.of(bearer, self._party, self._device.identity.device)

    def _take(self, data: bytes, revoked: Collection[bytes], bearer: Bearer) -> bytes | None:
        """Do what a letter asks for, and return the answer to it."""
        own = self._own(bearer)
        try:
            letter: Letter = decode_letter(data)
            peer = read_peer(letter, self.head_end, own, revoked)
        except (MalformedMessage, RequestRejected) as error:
            _LOG.warning("a letter that is not the head-end's", extra={"why": str(error)})
            return None
        if letter.envelope is None:
            return None

        def fresh() -> ec.EllipticCurvePrivateKey:
            return ec.generate_private_key(self._party.suite.curve)

        pairing = own.pairing(peer, self._settings)
        machine = Meter(pairing, self._record.state, fresh, own.agreement_key)
        answer: bytes | None = None
        for effect in machine.receive(letter.envelope):
            match effect:
                case Store():
                    self._write(replace(self._record, state=machine.state))
                case Send(message):
                    answer = own.letter(message)
                case Refused():
                    self._refused.append(effect)
                case Ignored(why):
                    _LOG.debug("a letter was passed over", extra={"why": why})
                case Done():
                    pass  # the keys are in the state that was stored
        return answer

    async def _note_introduction(self, introduction: bytes) -> None:
        if self._record.introduced != introduction:
            await self._device.lend(lambda _: self._write(replace(self._record, introduced=introduction)))

    def _write(self, record: MeterRecord) -> None:
        self._cabinet.write(_FILE, record.encode())
        self._record = record


def errand(head_end: SystemTitle) -> Callable[[Device, DeviceTransport], Awaitable[Poll]]:
    """Return one poll as what the meters of a fleet do besides (`agents.devices.fleet.FleetPlan`)."""

    async def poll(device: Device, transport: DeviceTransport) -> Poll:
        return await (await MeterKeys.open(device, head_end)).poll(transport)

    return poll


def _digest(mailbox: bytes, own_letter: bytes) -> bytes:
    return sha256(mailbox + own_letter).digest()[:_INTRODUCTION_BYTES]


def _read(device: str, head_end: SystemTitle | None, bearer: Bearer) -> tuple[Cabinet, MeterRecord]:
    cabinet = bearer.cabinet(FOLDER)
    data = cabinet.read(_FILE)
    if data is None:
        if head_end is None:
            raise DeviceError(f"{device} has no head-end yet: name its system title")
        record = MeterRecord(head_end)
    else:
        try:
            record = MeterRecord.decode(data)
        except MalformedMessage:
            raise CabinetError(f"the rollover of {device} is damaged on disk") from None
        if head_end in (None, record.head_end):
            return cabinet, record
        assert head_end is not None
        # Keys and floor stay: no generation of the head-end before can come again under the new one.
        record = replace(record, head_end=head_end, introduced=b"")
    cabinet.write(_FILE, record.encode())
    return cabinet, record
