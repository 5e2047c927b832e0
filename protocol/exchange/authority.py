"""The authority's side of one exchange: what to look up, what to verify, what to do, what to say.

    ExpectRequest ─receive→ Looking ─found→ Verifying ─verified→ Deciding ─committed→ Ended
          │                    │                │                   │
          └─ Hint              └─ Hint          └─ Hint             └─ Respond or Refuse
                               └─ Respond       └─ Refuse

The order of checks is the order of cost: size and decode, signer look-up, remembered answer, quotas, outer
signature, registration, proof of possession. Until the outer signature is known to be good every "no" is an
unsigned `Hint`; after that it is a `Refuse`, which the registration key signs.

No I/O, no clock, no randomness: effects are returned, facts and results come in, time is an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Final, TypeVar

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import LocalProtocolError, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority_effects import (
    Ask,
    Check,
    Done,
    Hint,
    Issue,
    Issued,
    Lookup,
    Lost,
    Order,
    Outcome,
    Packaged,
    Refuse,
    Respond,
    Verify,
)
from protocol.exchange.authority_judgement import (
    Bootstrap,
    Place,
    judge,
    judge_bootstrap,
    read_bootstrap,
    usable_key,
)
from protocol.exchange.facts import (
    CertificateFacts,
    DeviceFacts,
    Facts,
    FormerEpoch,
    RememberedCertificate,
    RememberedRefusal,
)
from protocol.exchange.request import (
    Confirmation,
    Door,
    KeyRequest,
    Revocation,
    SignedRequest,
    decode_request,
)
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, SignedRefusal
from protocol.problem import Problem

MAX_REQUEST_BYTES: Final = 1024
"""Longest request in bytes: twice what a certificate by value with every name at its longest needs."""


class Proof(Enum):
    """What became of a proof of possession."""

    GOOD = "good"
    BAD = "bad"
    NO_KEY = "no key"
    """The new key is no point on its curve."""


_PROOF_PROBLEMS: Final = {
    Proof.BAD: Problem(ProblemKind.PROOF_FAILED, "the new key did not sign the request"),
    Proof.NO_KEY: Problem(ProblemKind.BAD_KEY, "the new key is not on its curve"),
}


@dataclass(frozen=True, slots=True)
class ExpectRequest:
    """Nothing has come yet."""


@dataclass(frozen=True, slots=True)
class Looking:
    """Waiting to hear what is known."""

    place: Place
    ask: Ask
    request: SignedRequest
    bootstrap: Bootstrap | None


@dataclass(frozen=True, slots=True)
class Verifying:
    """Waiting to hear whether the signatures are good; the verdict is known if they are."""

    verdict: Order | Refuse
    former: tuple[Refuse, ...]
    """The verdict if the request is good for an owner before; as many as `Verify.former`."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """Waiting to hear whether what was decided could be done."""

    order: Order


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more happens."""


State = ExpectRequest | Looking | Verifying | Deciding | Ended
"""Each state holds exactly what is known in it, so nothing is ever None."""


_Final = TypeVar("_Final", Hint, Respond, Refuse)


class AuthorityExchange:
    """One request's walk through the authority.

    Args:
        places: The authority behind each label that can be asked for.
    """

    __slots__ = ("_places", "_state")

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._state: State = ExpectRequest()

    @property
    def state(self) -> State:
        """Where the exchange is."""
        return self._state

    def receive(self, inbound: Inbound) -> Lookup | Hint:
        """Take the request; nothing of it is believed yet."""
        if not isinstance(self._state, ExpectRequest):
            raise self._out_of_order("receive", ExpectRequest)
        place = self._places.get(inbound.label)
        if place is None or not place.profile.signers_of(inbound.op):
            return self._hint(ProblemKind.NOT_FOUND, "no such label or operation here")
        if len(inbound.body) > MAX_REQUEST_BYTES:
            return self._hint(ProblemKind.TOO_LARGE, f"more than {MAX_REQUEST_BYTES} bytes")
        try:
            request = decode_request(inbound.op, inbound.body)
            return self._look(place, inbound, request)
        except MalformedMessage as error:
            return self._hint(ProblemKind.MALFORMED, str(error))
        except RequestRejected as error:
            return self._end(Hint(Problem.of(error)))

    def _look(self, place: Place, inbound: Inbound, request: SignedRequest) -> Lookup:
        body, label, op = inbound.body, inbound.label, inbound.op
        memory = sha256(f"{label}/{op.value}\0".encode() + body).digest()
        ask = Ask(place.authority, label, op, sha256(body).digest(), memory)
        header = request.signed.header
        bootstrap: Bootstrap | None = None
        thumbprint = header.thumbprint
        if header.certificate is not None:
            thumbprint = c509.thumbprint(header.certificate)
            if op in (Operation.SEN, Operation.SKG):
                bootstrap = read_bootstrap(header.certificate, place)
        assert thumbprint is not None
        key_hash = target_thumbprint = target_serial = None
        match request.payload:
            case Confirmation(certificate_digest=digest):
                target_thumbprint = digest[:8]
            case Revocation(serial=serial):
                target_serial = serial
            case KeyRequest(nonce=nonce):
                key_hash = rules.nonce_hash(place.authority, label, thumbprint, nonce)
            case c509.CertificationRequest() as wanted:
                key_hash = rules.key_of_request(wanted)[2]
        self._state = Looking(place, ask, request, bootstrap)
        origin = None if bootstrap is None else (bootstrap.maker.key_id, bootstrap.name)
        return Lookup(ask, thumbprint, key_hash, origin, target_thumbprint, target_serial)

    def found(self, facts: Facts, now: int) -> Verify | Respond | Hint:
        """Go on with what is known.

        Args:
            facts: Answer to the `Lookup`.
            now: POSIX seconds.
        """
        state = self._state
        if not isinstance(state, Looking):
            raise self._out_of_order("found", Looking)
        signer, header = facts.signer, state.request.signed.header
        if signer is not None and header.certificate not in (None, signer.encoded):
            signer = None  # another certificate of the same thumbprint; nobody has made one yet
        if signer is None and state.bootstrap is None:
            if header.certificate is not None:
                return self._hint(ProblemKind.WRONG_SIGNER, "no certificate of a maker that is known here")
            return self._hint(ProblemKind.UNKNOWN_SIGNER, "send the signing certificate once by value")
        match facts.answer:
            case RememberedRefusal(encoded, problem):
                return self._end(Respond(SignedRefusal(encoded, problem)))
            case RememberedCertificate(encoded, certificate_state, not_after, media) if (
                certificate_state.is_alive and not rules.is_over(not_after, now)
            ):
                return self._end(Respond(Content(encoded, media)))
            case _:
                pass  # nothing remembered, or what was given has ended: go on and say so
        if facts.wait is not None:
            return self._end(Hint(Problem(ProblemKind.OVERLOADED, "too many requests", facts.wait)))
        if signer is not None:
            verdict = judge(state.ask, state.place, state.request.payload, signer, facts, now)
            return self._verify(state, verdict, signer.algorithm, signer.public_key, signer.device)
        assert state.bootstrap is not None
        return self._found_bootstrap(state, state.bootstrap, facts, now)

    def _found_bootstrap(self, state: Looking, bootstrap: Bootstrap, facts: Facts, now: int) -> Verify | Hint:
        """Judge a signer that came by value: its maker's signature is one more thing to verify."""
        device = facts.registered
        try:
            algorithm, key = usable_key(bootstrap.certificate)
            maker_algorithm, maker_key = usable_key(bootstrap.maker.certificate)
            signed_bytes = bootstrap.certificate.signed_bytes
        except (RequestRejected, MalformedMessage):
            return self._hint(ProblemKind.BAD_KEY, "the key of the signing certificate cannot be used")
        verdict: Order | Refuse
        try:
            verdict = judge_bootstrap(
                state.ask, state.place.profile, state.request.payload, bootstrap, facts, now
            )
        except RequestRejected as error:
            verdict = Refuse(state.ask, Problem.of(error), device, None)
        issuer = Check(maker_algorithm, maker_key, bootstrap.certificate.signature, signed_bytes)
        return replace(self._verify(state, verdict, algorithm, key, device), signer=issuer)

    def _verify(
        self,
        state: Looking,
        verdict: Order | Refuse,
        algorithm: Algorithm,
        public_key: bytes,
        device: DeviceFacts | None,
    ) -> Verify:
        signed, ask = state.request.signed, state.ask
        if signed.header.algorithm is not algorithm:
            public_key = b""  # a key of another kind: no signature by it verifies

        def outer(epoch: int, *, is_ours: bool = True) -> Check:
            door = Door(ask.authority, ask.label, ask.op, epoch)
            key = public_key if is_ours else b""  # nothing is good here for what another authority owns
            return Check(signed.header.algorithm, key, signed.signature, signed.signed_bytes(door.aad))

        former = () if device is None else device.former
        proof: Check | None = None
        payload = state.request.payload
        if isinstance(verdict, Issue) and isinstance(payload, c509.CertificationRequest):
            # The point as it came: compressed, a point off the curve might turn into one on it.
            key = payload.public_key
            proof = Check(verdict.algorithm, key, payload.signature, payload.signed_bytes)
        self._state = Verifying(verdict, tuple(_owner_changed(ask, device, verdict, one) for one in former))
        present = outer(0) if device is None else outer(device.epoch, is_ours=device.is_ours)
        return Verify(present, proof=proof, former=tuple(outer(one.epoch) for one in former))

    def verified(
        self,
        *,
        is_outer_good: bool,
        is_signer_good: bool = True,
        proof: Proof = Proof.GOOD,
        former: int | None = None,
    ) -> Order | Refuse | Hint:
        """Go on with what the signatures of the last `Verify` turned out to be.

        Args:
            is_outer_good: The request is by the key of the signing certificate, for this door.
            is_signer_good: The maker signed a certificate that came by value.
            proof: What became of the proof of possession; GOOD where none was asked for.
            former: Which of `Verify.former` is good, where `is_outer_good` is not.
        """
        state = self._state
        if not isinstance(state, Verifying):
            raise self._out_of_order("verified", Verifying)
        if is_signer_good and not is_outer_good and former is not None:
            return self._end(state.former[former])
        if not is_outer_good or not is_signer_good:
            return self._hint(ProblemKind.BAD_SIGNATURE, "wrong key, authority, owner, label or operation")
        verdict = state.verdict
        if isinstance(verdict, Refuse):
            return self._end(verdict)
        problem = _PROOF_PROBLEMS.get(proof)
        if problem is not None:
            signer = verdict.signer
            known = signer if isinstance(signer, CertificateFacts) else None
            return self._end(Refuse(verdict.ask, problem, signer.device, known))
        self._state = Deciding(verdict)
        return verdict

    def committed(self, outcome: Outcome) -> Respond | Refuse:
        """Go on with what became of the order."""
        state = self._state
        if not isinstance(state, Deciding):
            raise self._out_of_order("committed", Deciding)
        match outcome:
            case Issued(encoded):
                return self._end(Respond(Content(encoded, Media.C509_CERTIFICATE)))
            case Packaged(package):
                return self._end(Respond(Content(package, Media.CONTRACT_PACKAGE)))
            case Done(receipt):
                return self._end(Respond(Content(receipt, Media.SIGN1)))
            case Lost(problem):
                signer = state.order.signer
                known = signer if isinstance(signer, CertificateFacts) else None
                return self._end(Refuse(state.order.ask, problem, signer.device, known))

    def _hint(self, kind: ProblemKind, detail: str) -> Hint:
        return self._end(Hint(Problem(kind, detail)))

    def _end(self, effect: _Final) -> _Final:
        self._state = Ended()
        return effect

    def _out_of_order(self, method: str, needs: type[State]) -> LocalProtocolError:
        return LocalProtocolError(
            f"exchange is at {type(self._state).__name__}, {method}() needs {needs.__name__}"
        )


def _owner_changed(
    ask: Ask, device: DeviceFacts | None, verdict: Order | Refuse, former: FormerEpoch
) -> Refuse:
    """Return the refusal of a request that is good for an owner before, whatever it would be for this one."""
    signer = verdict.signer
    problem = Problem(ProblemKind.OWNER_CHANGED, "the device has another owner now", None, former.successor)
    return Refuse(ask, problem, device, signer if isinstance(signer, CertificateFacts) else None)
