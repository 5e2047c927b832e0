"""What a head-end has of its meters on disk, and what it does with their letters.

    state/metering/<title>     [1, signature certificate, key-agreement certificate, since, began, not before,
                                state], encrypted as the head-end's keys are

A meter is known from its first letter on. Everything here blocks; `agents.metering.rollover` calls it from
worker threads, one letter of a meter at a time.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from agents.devices.bearer import Bearer
from agents.devices.cabinet import Cabinet, CabinetError
from agents.metering.meter import FOLDER
from agents.metering.parties import Own, Party, Peer, read_peer
from protocol import cbor
from protocol.errors import MalformedMessage, RequestRejected
from protocol.exchange.device_pace import Patience
from protocol.metering.agreement import GREEN_BOOK, KdfSettings, Scheme
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.mail import Letter, decode_letter
from protocol.metering.rollover import (
    Done,
    Effects,
    HeadEnd,
    HeadEndState,
    Ignored,
    Offered,
    Plan,
    Refused,
    Send,
    Settled,
    Store,
    decode_head_end,
    encode_head_end,
)
from protocol.metering.rollover_state import MAX_STATE_BYTES
from protocol.metering.title import SystemTitle

AGREED: Final = (KeyKind.UNICAST, KeyKind.AUTHENTICATION, KeyKind.MASTER)
"""The keys of one meter. A broadcast key belongs to a group of them, and nobody here knows of groups."""
TRANSACTION_BYTES: Final = 8
PATIENCE: Final = Patience(answer=30.0, longest_answer=600.0, pause=10.0)
"""When a letter is written again while a run goes on. The mailbox keeps it: this is for lies about that."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownMeter:
    """What a head-end knows of one meter."""

    signature_certificate: bytes
    agreement_certificate: bytes
    state: HeadEndState = field(default=Settled(KeySet(0, {})), repr=False)
    since: float = 0.0
    """When the keys came into use, POSIX seconds; 0: there are none."""
    began: float = 0.0
    """When the offer that is under way was made, POSIX seconds."""
    not_before: float = 0.0
    """Earliest next try, POSIX seconds: later than now after a refusal."""

    def encode(self) -> bytes:
        """Return the file's content; it holds keys in clear."""
        times = [int(self.since), int(self.began), int(self.not_before)]
        certificates = [self.signature_certificate, self.agreement_certificate]
        return cbor.encode([1, *certificates, *times, encode_head_end(self.state)])

    @classmethod
    def decode(cls, data: bytes) -> "KnownMeter":
        """Return the meter in `data`; MalformedMessage if there is none."""
        item: Any = cbor.decode(data, max_bytes=2 * MAX_STATE_BYTES)
        match item:
            case [
                1, bytes(signature), bytes(agreement), int(since), int(began), int(not_before), bytes(state)
            ]:  # fmt: skip
                return cls(signature, agreement, decode_head_end(state), since, began, not_before)
            case _:
                raise MalformedMessage("not a record of a meter")

    @property
    def is_under_way(self) -> bool:
        """Whether a rollover has begun and not ended."""
        return not isinstance(self.state, Settled)


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a letter, or of a beginning."""

    answer: bytes | None = None
    """The letter to leave for the meter."""
    done: KeySet | None = None
    """The keys that both sides use from now on."""
    refused: Refused | None = None


class Register:
    """A head-end's meters.

    Args:
        party: What the head-end is.
        cabinet: Where they are.
        settings: What the key derivation leaves in doubt; the meters' are the same.
        wall: Tells POSIX seconds.
    """

    def __init__(
        self,
        party: Party,
        cabinet: Cabinet,
        settings: KdfSettings = GREEN_BOOK,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.wall: Final = wall
        self._party = party
        self._cabinet = cabinet
        self._settings = settings
        self._meters = dict(_load(cabinet))
        self._machines: dict[SystemTitle, HeadEnd] = {}
        self._own: Own | None = None
        self._revoked: Collection[bytes] = ()

    @classmethod
    def of(cls, party: Party, bearer: Bearer) -> "Register":
        """Open the register of a head-end; CabinetError if it cannot be read."""
        return cls(party, bearer.cabinet(FOLDER))

    def believe(self, own: Own, revoked: Collection[bytes]) -> None:
        """Go by these certificates and this revocation list from now on."""
        self._own, self._revoked = own, revoked
        self._machines.clear()

    def __getitem__(self, title: SystemTitle) -> KnownMeter:
        return self._meters[title]

    def titles(self) -> tuple[SystemTitle, ...]:
        """Return all meters, in the order of their titles."""
        return tuple(sorted(self._meters))

    def keys(self, title: SystemTitle) -> tuple[KeySet, ...]:
        """Return what the meter may be using: one set, or two between the switch and its confirmation."""
        state = self._meters[title].state
        return (state.keys,) if isinstance(state, (Settled, Offered)) else (state.keys, state.next)

    def begin(self, title: SystemTitle, scheme: Scheme, now: float) -> Heard:
        """Offer new keys to a meter about which nothing is under way.

        Raises:
            RequestRejected: Its certificates no longer hold.
        """
        curve = self._party.suite.curve
        ephemerals = {kind: ec.generate_private_key(curve) for kind in AGREED}
        plan = Plan(scheme, os.urandom(TRANSACTION_BYTES), ephemerals)
        return self._carry_out(title, self._machine(title), self._machine(title).begin(plan, now))

    def repeat(self, title: SystemTitle, now: float) -> Heard:
        """Say again what is under way.

        Raises:
            RequestRejected: As `begin`.
        """
        machine = self._machine(title)
        return self._carry_out(title, machine, machine.resume(now))

    def remind(self, title: SystemTitle, now: float, chance: float) -> Heard:
        """Say again what is under way if it is time for that; chance is >= 0 and < 1."""
        machine = self._machines.get(title)
        if machine is None or now < machine.deadline:
            return Heard()
        return self._carry_out(title, machine, machine.timeout(now, chance))

    def abandon(self, title: SystemTitle) -> None:
        """Give up an offer; the meter keeps its keys.

        Raises:
            RequestRejected: As `begin`.
        """
        machine = self._machine(title)
        self._carry_out(title, machine, machine.abandon())

    def postpone(self, title: SystemTitle, until: float) -> None:
        """Begin nothing with a meter before `until`, POSIX seconds."""
        self._write(title, replace(self._meters[title], not_before=until))

    def receive(self, title: SystemTitle, data: bytes, now: float) -> Heard:
        """Take a letter that came from `title`, as the mailbox says; what does not hold changes nothing."""
        try:
            letter = decode_letter(data)
            peer = self._peer(title, letter)
        except (MalformedMessage, RequestRejected) as error:
            _LOG.warning("a letter that is not the meter's", extra={"meter": str(title), "why": str(error)})
            return Heard()
        self._meet(title, letter)
        if letter.envelope is None:
            return Heard()
        machine = self._machine(title, peer)
        return self._carry_out(title, machine, machine.receive(letter.envelope, now))

    def _meet(self, title: SystemTitle, letter: Letter) -> None:
        """Know the certificates of a meter, and drop what was made with others."""
        certificates = (letter.signature_certificate, letter.agreement_certificate)
        known = self._meters.get(title)
        if known is None:
            self._write(title, KnownMeter(*certificates))
        elif certificates != (known.signature_certificate, known.agreement_certificate):
            signature, agreement = certificates
            self._machines.pop(title, None)
            self._write(
                title, replace(known, signature_certificate=signature, agreement_certificate=agreement)
            )

    def _peer(self, title: SystemTitle, letter: Letter) -> Peer:
        return read_peer(letter, title, self._believed(), self._revoked)

    def _believed(self) -> Own:
        assert self._own is not None  # nothing is asked of a register before `believe`
        return self._own

    def _machine(self, title: SystemTitle, peer: Peer | None = None) -> HeadEnd:
        machine = self._machines.get(title)
        if machine is None:
            known = self._meters[title]
            if peer is None:
                letter = Letter(known.signature_certificate, known.agreement_certificate)
                peer = self._peer(title, letter)
            pairing = self._believed().pairing(peer, self._settings)
            machine = HeadEnd(pairing, known.state, peer.agreement_key, PATIENCE)
            self._machines[title] = machine
        return machine

    def _carry_out(self, title: SystemTitle, machine: HeadEnd, effects: Effects) -> Heard:
        heard = Heard()
        for effect in effects:
            match effect:
                case Store():
                    self._store(title, machine.state)
                case Send(message):
                    heard = replace(heard, answer=self._believed().letter(message))
                case Done(keys):
                    heard = replace(heard, done=keys)
                case Refused():
                    heard = replace(heard, refused=effect)
                case Ignored(why):
                    _LOG.debug("a letter was passed over", extra={"meter": str(title), "why": why})
        return heard

    def _store(self, title: SystemTitle, state: HeadEndState) -> None:
        known, now = self._meters[title], self.wall()
        if state is known.state:
            return
        has_new_keys = state.keys.generation != known.state.keys.generation
        began = now if isinstance(state, Offered) else known.began
        since = now if has_new_keys else known.since
        self._write(title, replace(known, state=state, began=began, since=since))

    def _write(self, title: SystemTitle, known: KnownMeter) -> None:
        self._cabinet.write(title.name, known.encode())
        self._meters[title] = known


def _load(cabinet: Cabinet) -> Iterator[tuple[SystemTitle, KnownMeter]]:
    for name in cabinet.names():
        data = cabinet.read(name)
        try:
            if data is not None:
                yield SystemTitle.of_name(name), KnownMeter.decode(data)
        except (MalformedMessage, RequestRejected):
            raise CabinetError(f"what is stored of meter {name} is damaged") from None
