"""The meter's side of a rollover. See `protocol.metering.rollover` for the whole."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import MalformedMessage, RequestRejected
from protocol.metering import envelope
from protocol.metering.agreement import Scheme, agree, open_ephemeral, other_info, sign_ephemeral
from protocol.metering.confirmation import confirm, is_confirmed
from protocol.metering.keys import KeyKind, KeySet, unwrap_key
from protocol.metering.rollover_effects import Done, Effects, Ignored, Pairing, Refused, Send, Store
from protocol.metering.rollover_messages import (
    NECESSARY,
    Answer,
    Offer,
    Reason,
    Refusal,
    Step,
    Switch,
    Switched,
)
from protocol.metering.rollover_state import MeterState, Pending, Spent, fingerprint, remember

EphemeralKeys = Callable[[], ec.EllipticCurvePrivateKey]
"""Makes a fresh private key of the suite's curve. It draws the randomness, so that the machine does not."""


class _No(Exception):
    """An offer or a switch is refused."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Meter:
    """Follows one head-end from one generation of keys to the next.

    Args:
        pairing: Who is who.
        state: As it was last stored.
        make_ephemeral: For C(2e, 0s): called once for each kind of an offer that is taken.
        static_key: The meter's key-agreement key; without it C(1e, 1s) is refused.
    """

    __slots__ = ("_make_ephemeral", "_pairing", "_state", "_static_key")

    def __init__(
        self,
        pairing: Pairing,
        state: MeterState,
        make_ephemeral: EphemeralKeys,
        static_key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self._pairing = pairing
        self._state = state
        self._make_ephemeral = make_ephemeral
        self._static_key = static_key

    @property
    def state(self) -> MeterState:
        """What was last to be stored."""
        return self._state

    @property
    def keys(self) -> KeySet:
        """What the meter uses."""
        return self._state.keys

    def receive(self, data: bytes) -> Effects:
        """Take a message, from whomever.

        Returns:
            `Ignored` for all that is not the head-end's word; the same reply for the same message.
        """
        digest = sha256(data).digest()
        if digest == self._state.heard:  # a repeat costs no signature, on either side
            return (Send(self._state.reply),)
        try:
            sealed = envelope.decode(data)
            if not self._pairing.is_for_us(sealed):
                return (Ignored("another conversation"),)
            message = self._pairing.open(sealed)
        except (MalformedMessage, RequestRejected) as error:
            return (Ignored(str(error)),)
        match message:
            case Offer():
                return self._offered(message, sealed.transaction_id, digest)
            case Switch():
                return self._told_to_switch(message, sealed.transaction_id, digest)
            case _:
                return (Ignored("a meter's message"),)

    def _offered(self, offer: Offer, transaction_id: bytes, digest: bytes) -> Effects:
        state, generation = self._state, offer.generation
        if generation == state.floor and self._is_conversation(transaction_id):
            return (Send(state.reply),)  # an old copy: the last word about this generation stands
        if generation <= state.floor:
            refusal = Refusal(generation, Step.OFFER, Reason.STALE, state.floor)
            return (Send(self._pairing.seal(transaction_id, refusal)),)
        try:
            pending, key_data, fresh = self._take(offer)
        except _No as no:
            return self._refuse(generation, Step.OFFER, no.reason, transaction_id, digest)
        reply = self._pairing.seal(transaction_id, Answer(generation, key_data))
        spent = remember(state.spent, fresh)
        self._state = MeterState(state.keys, generation, pending, digest, reply, spent)
        return (Store(self._state), Send(reply))

    def _is_conversation(self, transaction_id: bytes) -> bool:
        """Return whether the last word was said in this one; a head-end without memory begins another."""
        reply = self._state.reply
        return bool(reply) and envelope.decode(reply).transaction_id == transaction_id

    def _take(self, offer: Offer) -> tuple[Pending, Mapping[KeyKind, bytes], Spent]:
        """Return the keys of an offer, what goes back for them, and what is spent by it; or raise _No."""
        agreed, transferred = set(offer.key_data), set(offer.transferred)
        is_possible = offer.scheme is Scheme.EPHEMERAL or (
            offer.scheme is Scheme.ONE_PASS and self._static_key is not None
        )
        is_sound = agreed >= NECESSARY and not agreed & transferred
        if transferred and KeyKind.MASTER not in agreed:
            is_sound = False
        if not is_possible or not is_sound or offer.suite != self._pairing.suite.number:
            raise _No(Reason.UNSUPPORTED)
        if not agreed | transferred >= set(self._state.keys.keys):
            raise _No(Reason.INCOMPLETE)
        try:
            keys, key_data, fresh = self._agree(offer)
        except RequestRejected:
            raise _No(Reason.BAD_KEY) from None
        new = KeySet(offer.generation, keys)
        is_spent = len(set(fresh)) < len(fresh) or not set(fresh).isdisjoint(self._state.spent)
        if is_spent or new.has_twins or new.has_key_of(self._state.keys):
            raise _No(Reason.BAD_KEY)
        return Pending(new, offer.transferred), key_data, fresh

    def _agree(self, offer: Offer) -> tuple[dict[KeyKind, bytes], dict[KeyKind, bytes], Spent]:
        pairing = self._pairing
        keys: dict[KeyKind, bytes] = {}
        key_data: dict[KeyKind, bytes] = {}
        fresh: list[bytes] = []
        for kind, signed in offer.key_data.items():
            key = open_ephemeral(pairing.suite, pairing.peer_key, kind, signed, pairing.settings)
            fresh.append(fingerprint(key))
            own = self._static_key
            if offer.scheme is Scheme.EPHEMERAL:
                own = self._make_ephemeral()
                key_data[kind] = sign_ephemeral(
                    pairing.suite, pairing.signer, kind, own.public_key(), pairing.settings
                )
            assert own is not None
            info = other_info(pairing.suite, kind, pairing.peer, pairing.title, settings=pairing.settings)
            keys[kind] = agree(pairing.suite, own, key, info)
        return keys, key_data, tuple(fresh)

    def _told_to_switch(self, switch: Switch, transaction_id: bytes, digest: bytes) -> Effects:
        state, generation = self._state, switch.generation
        if state.pending is not None and state.pending.keys.generation == generation:
            try:
                keys = self._complete(state.pending, switch)
            except _No as no:
                return self._refuse(generation, Step.SWITCH, no.reason, transaction_id, digest)
            return self._switch(keys, transaction_id, digest)
        if generation == state.keys.generation:
            # An old copy. The head-end had its confirmation if it has begun anew since.
            is_last_word = generation == state.floor
            return (Send(state.reply),) if is_last_word else (Ignored("a switch that was made long ago"),)
        return self._refuse(generation, Step.SWITCH, Reason.UNKNOWN_GENERATION, transaction_id, digest)

    def _complete(self, pending: Pending, switch: Switch) -> KeySet:
        """Return all keys of the generation, shown to be those of the head-end; or raise _No."""
        pairing = self._pairing
        keys = dict(pending.keys.keys)
        if set(switch.wrapped) != set(pending.transferred):
            raise _No(Reason.INCOMPLETE)
        try:
            for kind, wrapped in switch.wrapped.items():
                keys[kind] = unwrap_key(pairing.suite, keys[KeyKind.MASTER], wrapped)
        except RequestRejected:
            raise _No(Reason.KEYS_DIFFER) from None
        new = KeySet(switch.generation, keys)
        if not is_confirmed(
            pairing.suite, new, Step.SWITCH, pairing.peer, pairing.title, switch.confirmation
        ):
            raise _No(Reason.KEYS_DIFFER)
        if new.has_twins or new.has_key_of(self._state.keys):
            raise _No(Reason.BAD_KEY)
        return new

    def _switch(self, keys: KeySet, transaction_id: bytes, digest: bytes) -> Effects:
        pairing = self._pairing
        confirmation = confirm(pairing.suite, keys, Step.SWITCHED, pairing.title, pairing.peer)
        reply = pairing.seal(transaction_id, Switched(keys.generation, confirmation))
        state = self._state
        self._state = MeterState(keys, state.floor, None, digest, reply, state.spent)
        return (Store(self._state), Done(keys), Send(reply))

    def _refuse(
        self, generation: int, step: Step, reason: Reason, transaction_id: bytes, digest: bytes
    ) -> Effects:
        """Refuse a generation for good, so that no copy of anything brings it back."""
        state = self._state
        floor = max(state.floor, generation)
        reply = self._pairing.seal(transaction_id, Refusal(generation, step, reason, floor))
        if generation < state.floor:  # left behind already: nothing to store
            return (Send(reply),)
        self._state = replace(state, floor=floor, pending=None, heard=digest, reply=reply)
        return (Store(self._state), Refused(generation, step, reason), Send(reply))
