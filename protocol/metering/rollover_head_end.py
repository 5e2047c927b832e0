"""The head-end's side of a rollover. See `protocol.metering.rollover` for the whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from protocol.errors import LocalProtocolError, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange.device_pace import Pace, Patience
from protocol.metering import envelope
from protocol.metering.agreement import Scheme, agree, open_ephemeral, other_info, sign_ephemeral
from protocol.metering.confirmation import confirm, is_confirmed
from protocol.metering.keys import MAX_GENERATION, KeyKind, KeySet, wrap_key
from protocol.metering.rollover_effects import Done, Effect, Effects, Ignored, Pairing, Refused, Send, Store
from protocol.metering.rollover_messages import (
    NECESSARY,
    Answer,
    Message,
    Offer,
    Reason,
    Refusal,
    Step,
    Switch,
    Switched,
)
from protocol.metering.rollover_state import (
    HeadEndState,
    Offered,
    Settled,
    Spent,
    Switching,
    fingerprint,
    remember,
)

PATIENCE: Final = Patience()
"""When to send again. A rollover never gives up by itself, whatever a patience says: once the switch is out,
only the meter knows which keys it uses."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One rollover, as the driver wants it."""

    scheme: Scheme
    transaction_id: bytes
    """Fresh, 8 octets."""
    ephemerals: Mapping[KeyKind, ec.EllipticCurvePrivateKey] = field(repr=False)
    """A fresh private key for each kind to agree on: unicast and authentication at least."""
    transferred: Mapping[KeyKind, bytes] = field(default_factory=dict[KeyKind, bytes], repr=False)
    """New keys that were made elsewhere, as a group's broadcast key. They go wrapped with the new master
    key, which is therefore agreed on."""


class HeadEnd:
    """Renews the keys of one meter.

    Args:
        pairing: Who is who.
        state: As it was last stored.
        meter_key: The meter's static key-agreement key, from its certificate; C(1e, 1s) needs it.
        patience: When to send again; its `give_up` counts for nothing.
    """

    __slots__ = ("_meter_key", "_pace", "_pairing", "_patience", "_state")

    def __init__(
        self,
        pairing: Pairing,
        state: HeadEndState,
        meter_key: ec.EllipticCurvePublicKey | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._pairing = pairing
        self._state = state
        self._meter_key = meter_key
        self._patience = replace(patience, give_up=float("inf"))
        self._pace = Pace(patience, 0.0)

    @property
    def state(self) -> HeadEndState:
        """What was last to be stored."""
        return self._state

    @property
    def keys(self) -> tuple[KeySet, ...]:
        """What the meter may be using: one set, or two between the switch and its confirmation.

        The head-end sends under the first and takes what comes under any.
        """
        state = self._state
        return (state.keys, state.next) if isinstance(state, Switching) else (state.keys,)

    @property
    def deadline(self) -> float:
        """When to call `timeout` if nothing comes, on the clock of `now`; infinite while settled."""
        return float("inf") if isinstance(self._state, Settled) else self._pace.deadline

    def begin(self, plan: Plan, now: float) -> Effects:
        """Offer new keys.

        Raises:
            ValueError: A plan that cannot work: kinds left out or given twice, an ephemeral key that was
                used before, a transferred key without a master key, no key of the meter.
            LocalProtocolError: A rollover is under way.
        """
        state = self._state
        if not isinstance(state, Settled):
            raise LocalProtocolError(f"a rollover is at {type(state).__name__}")
        fresh = self._check(plan, state)
        generation = state.counter + 1
        suite, signer, settings = self._pairing.suite, self._pairing.signer, self._pairing.settings
        key_data = {
            kind: sign_ephemeral(suite, signer, kind, key.public_key(), settings)
            for kind, key in plan.ephemerals.items()
        }
        offer = Offer(generation, suite.number, plan.scheme, key_data, tuple(sorted(plan.transferred)))
        agreed: dict[KeyKind, bytes] = {}
        ephemerals: dict[KeyKind, bytes] = {}
        for kind, key in plan.ephemerals.items():
            if plan.scheme is Scheme.ONE_PASS:
                assert self._meter_key is not None
                agreed[kind] = self._agree(kind, key, self._meter_key)
            else:
                ephemerals[kind] = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self._state = Offered(
            state.keys,
            generation,
            remember(state.spent, fresh),
            plan.transaction_id,
            self._pairing.seal(plan.transaction_id, offer),
            agreed,
            ephemerals,
            plan.transferred,
        )
        return self.resume(now)

    def resume(self, now: float) -> Effects:
        """Send what is under way again, after a restart or to hurry; nothing if nothing is."""
        state = self._state
        if isinstance(state, Settled):
            return ()
        self._pace = Pace(self._patience, now)
        self._pace.sent(now)
        return (Store(state), Send(state.message))

    def timeout(self, now: float, chance: float) -> Effects:
        """Go on because `deadline` has passed: pause, or send again.

        Args:
            now: The time.
            chance: A random number, >= 0 and < 1.
        """
        state = self._state
        if isinstance(state, Settled) or now < self._pace.deadline:
            return ()
        if not self._pace.is_paused:
            self._pace.pause(now, chance)
            return ()
        self._pace.sent(now)
        return (Send(state.message),)

    def abandon(self) -> Effects:
        """Give up an offer. The meter's answer to it, if it comes, is ignored.

        Raises:
            LocalProtocolError: Nothing is offered, or the switch is out and the meter may have followed it.
        """
        state = self._state
        if not isinstance(state, Offered):
            raise LocalProtocolError(f"a rollover is at {type(state).__name__}")
        return self._settle(Settled(state.keys, state.counter, state.spent))

    def receive(self, data: bytes, now: float) -> Effects:
        """Take a message, from whomever.

        Returns:
            `Ignored` for all that is not the meter's word about what is under way.
        """
        state = self._state
        if isinstance(state, Settled):
            return (Ignored("nothing is under way"),)
        try:
            sealed = envelope.decode(data)
            if not self._pairing.is_for_us(sealed) or sealed.transaction_id != state.transaction_id:
                return (Ignored("another conversation"),)
            message = self._pairing.open(sealed)
        except (MalformedMessage, RequestRejected) as error:
            return (Ignored(str(error)),)
        if message.generation != state.counter:
            return (Ignored("another generation"),)
        match state:
            case Offered():
                return self._heard_about_offer(state, message, now)
            case Switching():
                return self._heard_about_switch(state, message)

    def _heard_about_offer(self, state: Offered, message: Message, now: float) -> Effects:
        match message:
            case Answer(_, key_data):
                try:
                    following, fresh = self._derive(state, key_data)
                except RequestRejected:
                    refused = Refused(state.counter, Step.ANSWER, Reason.BAD_KEY)
                    return self._settle(Settled(state.keys, state.counter, state.spent), refused)
                return self._switch(state, following, fresh, now)
            case Refusal(step=Step.OFFER):
                return self._refused(state, message)
            case _:
                return (Ignored("not an answer to the offer"),)

    def _heard_about_switch(self, state: Switching, message: Message) -> Effects:
        match message:
            case Switched(_, confirmation):
                if not self._is_confirmed(state.next, confirmation):
                    return (Ignored("a confirmation with other keys"),)
                return self._settle(Settled(state.next, state.counter, state.spent), Done(state.next))
            # A refusal of the offer may be an old one; a meter that has refused the switch never follows it.
            case Refusal(step=Step.SWITCH):
                return self._refused(state, message)
            case _:
                return (Ignored("not an answer to the switch"),)

    def _check(self, plan: Plan, state: Settled) -> Spent:
        """Return the fingerprints of the plan's ephemeral keys, or raise ValueError."""
        agreed, transferred = set(plan.ephemerals), set(plan.transferred)
        fresh = tuple(fingerprint(key.public_key()) for key in plan.ephemerals.values())
        if plan.scheme is Scheme.STATIC or (plan.scheme is Scheme.ONE_PASS and self._meter_key is None):
            raise ValueError("a scheme without the keys it needs")
        if not agreed >= NECESSARY or agreed & transferred or (transferred and KeyKind.MASTER not in agreed):
            raise ValueError("unicast and authentication are agreed on, and master if a key is transferred")
        if not agreed | transferred >= set(state.keys.keys):
            raise ValueError("a key that is left as it is would serve two generations")
        if len(set(fresh)) < len(fresh) or not set(fresh).isdisjoint(state.spent):
            raise ValueError("an ephemeral key is used once")
        suite = self._pairing.suite
        if any(key.curve.name != suite.curve.name for key in plan.ephemerals.values()):
            raise ValueError("an ephemeral key of another curve")
        if any(len(key) != suite.key_bytes for key in plan.transferred.values()):
            raise ValueError("a transferred key of another length")
        if KeySet(state.counter, plan.transferred).has_key_of(state.keys):
            raise ValueError("a transferred key that is in use already")
        if state.counter >= MAX_GENERATION:
            raise ValueError("there is no generation left")
        return fresh

    def _agree(
        self, kind: KeyKind, private_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePublicKey
    ) -> bytes:
        pairing = self._pairing
        info = other_info(pairing.suite, kind, pairing.title, pairing.peer, settings=pairing.settings)
        return agree(pairing.suite, private_key, key, info)

    def _derive(self, state: Offered, key_data: Mapping[KeyKind, bytes]) -> tuple[KeySet, Spent]:
        """Return the new keys, and fingerprints of the meter's ephemeral ones; or raise RequestRejected."""
        pairing = self._pairing
        if set(key_data) != set(state.ephemerals):
            raise RequestRejected(ProblemKind.BAD_KEY, "ephemeral keys of other kinds than were offered")
        keys = {**state.agreed, **state.transferred}
        fresh: list[bytes] = []
        for kind, encoded in state.ephemerals.items():
            key = open_ephemeral(pairing.suite, pairing.peer_key, kind, key_data[kind], pairing.settings)
            private_key = cast("ec.EllipticCurvePrivateKey", load_der_private_key(encoded, None))
            keys[kind] = self._agree(kind, private_key, key)
            fresh.append(fingerprint(key))
        following = KeySet(state.counter, keys)
        if following.has_twins or following.has_key_of(state.keys) or not set(fresh).isdisjoint(state.spent):
            raise RequestRejected(ProblemKind.BAD_KEY, "a key that was used before")
        return following, tuple(fresh)

    def _switch(self, state: Offered, following: KeySet, fresh: Spent, now: float) -> Effects:
        pairing = self._pairing
        wrapped = {
            kind: wrap_key(pairing.suite, following.keys[KeyKind.MASTER], key)
            for kind, key in state.transferred.items()
        }
        confirmation = confirm(pairing.suite, following, Step.SWITCH, pairing.title, pairing.peer)
        message = pairing.seal(state.transaction_id, Switch(state.counter, wrapped, confirmation))
        spent = remember(state.spent, fresh)
        self._state = Switching(state.keys, following, state.counter, spent, state.transaction_id, message)
        return self.resume(now)

    def _is_confirmed(self, keys: KeySet, confirmation: bytes) -> bool:
        pairing = self._pairing
        return is_confirmed(pairing.suite, keys, Step.SWITCHED, pairing.peer, pairing.title, confirmation)

    def _refused(self, state: Offered | Switching, refusal: Refusal) -> Effects:
        # The next offer is above all that the meter has seen, also where a restored head-end counted less.
        settled = Settled(state.keys, max(state.counter, refusal.floor), state.spent)
        return self._settle(settled, Refused(refusal.generation, refusal.step, refusal.reason))

    def _settle(self, state: Settled, *effects: Effect) -> Effects:
        self._state = state
        return (Store(state), *effects)
