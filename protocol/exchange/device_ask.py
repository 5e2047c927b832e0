"""One signed request of a device, repeated until something that verifies answers it.

    FETCH_CHAIN ──chain──> AWAIT_ANSWER ──verified answer──> (its owner goes on)
                            │        ^
              verdict by an │        │ chain
             unknown key    v        │
                           FETCH_SIGNER

The same bytes go out each time. Unsigned hints (`Problem`, `Pending`) only move the next attempt; the
one that names an unknown signer makes the device repeat once with its whole certificate (c5c) around
the same inner request.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocol.cose import decode_sign1
from protocol.errors import LocalProtocolError, MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange.device_effects import Credential, Effects, Save, Send, TakeVoucher
from protocol.exchange.device_pace import Pace
from protocol.exchange.device_trust import Trust, UnknownRegistrar
from protocol.exchange.request import Door, sign_request
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.receipt import Receipt
from protocol.validity import Clock


class Waiting(Enum):
    """What an `Ask` waits for."""

    CHAIN = "the authority's certificates"
    ANSWER = "an answer"
    SIGNER = "the certificate of an answer's signer"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a reply came to."""

    effects: Effects = ()
    """To be done in any case; none and no answer: the reply was noise, or only put off the next attempt."""
    answer: Content | Receipt | Problem | None = None
    """What ends the asking, for its owner to judge: a `Content` that is neither chain nor verdict, not yet
    verified, or the authority's verified words, a `Receipt` or a `Problem` that is final."""


_NOISE: Final = Heard()


class Ask:
    """One request and its repetitions.

    Args:
        trust: What the device believes; learns here.
        pace: When to try again.
        credential: Who signs.
        door: Where the request is to be good.
        payload: What is signed (`protocol.exchange.request`).
        saved: The request as it was stored before it was first sent; then `payload` is not looked at.
        is_saved_first: Whether the request is to be stored before it is sent.
    """

    def __init__(
        self,
        trust: Trust,
        pace: Pace,
        credential: Credential,
        door: Door,
        payload: bytes,
        *,
        saved: bytes | None = None,
        is_saved_first: bool = False,
    ) -> None:
        self._trust = trust
        self._pace = pace
        self._credential = credential
        self._door = door
        self._is_saved_first = is_saved_first
        self._held: bytes | None = None
        self._request: bytes | None = saved
        self._payload = payload
        self._is_by_value = False
        if saved is not None:
            signed = decode_sign1(saved)
            self._payload = signed.payload
            self._is_by_value = signed.header.certificate is not None
        self.waiting = Waiting.CHAIN
        """What is waited for, or will be sent for after the pause."""

    @property
    def request(self) -> bytes | None:
        """The request as it was sent last; None before it was."""
        return self._request

    def start(self, now: float) -> Effects:
        """Return the first thing to send."""
        if not self._trust.may_issue(self._door.label):
            return (self._send_for_chain(now, Waiting.CHAIN),)
        return self._send_request(now)

    def repeat(self, now: float) -> Effects:
        """Return what to send again after a pause."""
        if self.waiting is Waiting.ANSWER:
            return self._send_request(now)
        return (self._send_for_chain(now, self.waiting),)

    def receive(self, reply: Reply, now: float, jitter: float, clock: Clock) -> Heard:
        """Take a reply; any bytes at all may be in it."""
        match reply:
            case Problem():
                return Heard(self._hinted(reply, now, jitter))
            case Pending(retry_after):
                self._pause(now, jitter, retry_after)
                return _NOISE
            case Content(body, Media.COSE_C509):
                return self._chain_arrived(body, now, jitter, clock)
            case Content(body, Media.SIGN1) | SignedRefusal(body):
                return self._verdict_arrived(body, now, jitter)
            case Content():
                return Heard(answer=reply) if self.waiting is Waiting.ANSWER else _NOISE

    def _send_for_chain(self, now: float, waiting: Waiting) -> Send:
        self.waiting = waiting
        self._pace.sent(now)
        return Send(Outbound(self._door.label, Operation.CRTS))

    def _send_request(self, now: float) -> Effects:
        self.waiting = Waiting.ANSWER
        self._pace.sent(now)
        if self._request is not None:
            return (Send(Outbound(self._door.label, self._door.op, self._request)),)
        self._request = sign_request(
            self._credential.signer,
            self._credential.certificate,
            self._door,
            self._payload,
            by_value=self._is_by_value,
        )
        send = Send(Outbound(self._door.label, self._door.op, self._request))
        return (Save(self._request), send) if self._is_saved_first else (send,)

    def _hinted(self, hint: Problem, now: float, jitter: float) -> Effects:
        if self._pace.is_paused:
            return ()
        if (
            hint.kind is ProblemKind.UNKNOWN_SIGNER
            and self.waiting is Waiting.ANSWER
            and not self._is_by_value
        ):
            self._is_by_value = True
            self._request = None
            return self._send_request(now)
        self._pause(now, jitter, hint.retry_after)
        return ()

    def _pause(self, now: float, jitter: float, retry_after: float | None = None) -> None:
        # A second hint during a pause is dropped: a flood of them would put the next attempt off for ever.
        if not self._pace.is_paused:
            self._pace.pause(now, jitter, retry_after)

    def _chain_arrived(self, body: bytes, now: float, jitter: float, clock: Clock) -> Heard:
        if self.waiting is Waiting.ANSWER:
            return _NOISE
        try:
            learn = self._trust.learn(body, clock)
        except (MalformedMessage, RequestRejected):
            return _NOISE
        self._pace.progressed()
        if self.waiting is Waiting.CHAIN:
            if self._trust.may_issue(self._door.label):
                return Heard((learn, *self._send_request(now)))
            # An authentic chain, but perhaps an old one that somebody kept: not the end.
            self._pause(now, jitter)
            return Heard((learn,))
        self.waiting = Waiting.ANSWER
        if self._held is None:
            raise LocalProtocolError("the signer of no answer was asked for")
        try:
            verdict = self._read(self._held)
        except (UnknownRegistrar, MalformedMessage, RequestRejected):
            # The same verdict, if it was one, comes again to the same bytes.
            self._pause(now, jitter)
            return Heard((learn,))
        heard = self._decided(verdict, now, jitter)
        return Heard((learn, *heard.effects), heard.answer)

    def _verdict_arrived(self, body: bytes, now: float, jitter: float) -> Heard:
        if self.waiting is not Waiting.ANSWER:
            return _NOISE
        try:
            return self._decided(self._read(body), now, jitter)
        except UnknownRegistrar:
            self._held = body
            return Heard((self._send_for_chain(now, Waiting.SIGNER),))
        except (MalformedMessage, RequestRejected):
            return _NOISE

    def _read(self, body: bytes) -> Receipt | Problem:
        if self._request is None:
            raise LocalProtocolError("a verdict was read before a request was sent")
        return self._trust.read_verdict(body, request=self._request, label=self._door.label, op=self._door.op)

    def _decided(self, verdict: Receipt | Problem, now: float, jitter: float) -> Heard:
        if not isinstance(verdict, Problem):
            return Heard(answer=verdict)
        if verdict.is_temporary:
            return Heard(self._hinted(verdict, now, jitter))
        if verdict.successor is None:
            return Heard(answer=verdict)
        try:
            voucher = self._trust.read_voucher(verdict.successor.voucher)
        except (MalformedMessage, RequestRejected) as error:
            # The authority's own words, and yet no owner that can be believed.
            return Heard(answer=Problem(verdict.kind, f"the voucher does not hold: {error}"))
        return Heard((TakeVoucher(voucher, verdict.successor.at),), verdict)
