"""The device fetches what is for everybody: revocation list (`crl`), request template (`att`).

    IDLE ──start──> FETCHING ──something that verifies──> DONE
                        └──────── out of time ──────────> FAILED

A revocation list is signed by the authority, so it is checked like everything else, and an older one than
was seen is noise (`protocol.exchange.device_revocations`). Who has a list asks for what is new since that
alone, and gets the whole list where the authority does not know it any more.

A template is signed by nobody: it may narrow what the device's own profile says, never widen it, and decides
nothing else.
"""

import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import (
    ExchangeTimeout,
    LocalProtocolError,
    MalformedMessage,
    ProblemKind,
    RequestRejected,
)
from protocol.exchange.device import State
from protocol.exchange.device_effects import Done, Effects, Fail, LearnRevocations, Send
from protocol.exchange.device_pace import Pace, Patience
from protocol.exchange.device_revocations import RevocationList, read_revocation_list
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Pending, Reply
from protocol.problem import Problem
from protocol.profiles import Profile
from protocol.validity import Clock

__all__ = ["Fetch", "RevocationList", "fetch_revocations", "fetch_template", "narrow", "read_revocation_list"]

T = TypeVar("T")
_NATIVE_REQUEST: Final = 2


def narrow(profile: Profile, template: c509.RequestTemplate) -> tuple[Algorithm, ...]:
    """Return the profile's algorithms that a template leaves.

    Raises:
        RequestRejected: It leaves none, or wants what this device's requests never hold.
    """
    types, signatures, keys = (
        template.request_types,
        template.signature_algorithms,
        template.public_key_algorithms,
    )
    left = tuple(
        algorithm
        for algorithm in profile.algorithms
        if (signatures is None or SIGNATURE_ALGORITHMS[algorithm] in signatures)
        and (keys is None or KEY_ALGORITHMS[algorithm] in keys)
    )
    if not left or (types is not None and _NATIVE_REQUEST not in types):
        raise RequestRejected(ProblemKind.UNSUPPORTED_FORMAT, "a template that leaves nothing to ask for")
    return left


class Fetch(Generic[T]):
    """Fetches one thing that needs no signature of ours.

    Args:
        trust: What the device believes; learns the chain first where `needs_authority`.
        request: What to send: `crl` or `att`.
        media: What the answer is.
        check: Returns what is in the answer, and the effects of knowing it; raises MalformedMessage or
            RequestRejected for noise.
        clock: What is known of the time at `start`.
        patience: Limits of waiting.
        needs_authority: Whether `check` needs the authority's certificate.
    """

    def __init__(
        self,
        trust: Trust,
        request: Outbound,
        media: Media,
        check: Callable[[bytes], tuple[T, Effects]],
        clock: Clock,
        patience: Patience | None = None,
        *,
        needs_authority: bool = False,
    ) -> None:
        self._trust = trust
        self._request = request
        self._media = media
        self._check = check
        self._clock = clock
        self._patience = patience or Patience()
        self._pace = Pace(self._patience, 0.0)
        self._needs_authority = needs_authority
        self.state = State.IDLE
        """Where the exchange is."""
        self.result: T | None = None
        """What was fetched, once it is done."""

    @property
    def deadline(self) -> float:
        """When to call `timeout` if nothing comes; infinite before the start and after the end."""
        return self._pace.deadline if self.state is State.FETCHING else math.inf

    def start(self, now: float) -> Effects:
        """Begin."""
        if self.state is not State.IDLE:
            raise LocalProtocolError(f"an exchange that is {self.state.value} cannot start")
        self.state = State.FETCHING
        self._pace = Pace(self._patience, now)
        return self._send(now)

    def receive(self, reply: Reply, now: float, jitter: float) -> Effects:
        """Take a reply; noise gives no effects and leaves the deadline as it is."""
        if self.state is not State.FETCHING:
            return ()
        match reply:
            case Problem(retry_after=retry_after) | Pending(retry_after):
                if not self._pace.is_paused:
                    self._pace.pause(now, jitter, retry_after)
                return ()
            case Content(body, Media.COSE_C509) if self._wants_chain:
                try:
                    learn = self._trust.learn(body, self._clock)
                except (MalformedMessage, RequestRejected):
                    return ()
                self._pace.progressed()
                return (learn, *self._send(now))
            case Content(body, media) if media is self._media and not self._wants_chain:
                try:
                    self.result, effects = self._check(body)
                except (MalformedMessage, RequestRejected):
                    return ()
                self.state = State.DONE
                return (*effects, Done())
            case _:
                return ()

    def timeout(self, now: float, jitter: float) -> Effects:
        """Say that the deadline passed, or that no answer will come to what was sent."""
        if self.state is not State.FETCHING:
            raise LocalProtocolError(f"an exchange that is {self.state.value} has no deadline")
        if self._pace.is_over(now):
            self.state = State.FAILED
            return (Fail(ExchangeTimeout(f"no usable answer in {self._patience.give_up:g} s")),)
        if self._pace.is_paused:
            return self._send(now)
        self._pace.pause(now, jitter)
        return ()

    @property
    def _wants_chain(self) -> bool:
        return self._needs_authority and self._trust.authority is None

    def _send(self, now: float) -> Effects:
        self._pace.sent(now)
        return (Send(Outbound(self._request.label, Operation.CRTS) if self._wants_chain else self._request),)


def fetch_revocations(
    trust: Trust,
    label: str,
    lowest_number: int,
    clock: Clock,
    patience: Patience | None = None,
    *,
    media: Media = Media.PKIX_CRL,
    known: RevocationList | None = None,
) -> Fetch[RevocationList]:
    """Return a machine that fetches the revocation list of the authority of `label`.

    Args:
        trust: What the device believes.
        label: Whose authority.
        lowest_number: The highest crlNumber seen so far.
        clock: What is known of the time.
        patience: Limits of waiting.
        media: PKIX_CRL, or C509_CRL: a quarter of the size.
        known: A list that was fetched before from the same authority: what is new since then will do. The
            result is whole in any case. One that is older than `lowest_number` is passed over.
    """
    if known is not None and not 0 < known.number >= lowest_number:
        known = None

    def check(data: bytes) -> tuple[RevocationList, Effects]:
        authority = trust.authority
        if authority is None:
            raise LocalProtocolError("a revocation list was checked before its issuer was known")
        read = read_revocation_list(
            data, authority, lowest_number=lowest_number, clock=clock, media=media, known=known
        )
        return read, (LearnRevocations(read.number, read.this_update),)

    request = Outbound(
        label,
        Operation.CRL,
        accept=None if media is Media.PKIX_CRL else media,
        base=None if known is None else known.number,
    )
    return Fetch(trust, request, media, check, clock, patience, needs_authority=True)


def fetch_template(
    trust: Trust, profile: Profile, clock: Clock, patience: Patience | None = None
) -> Fetch[tuple[Algorithm, ...]]:
    """Return a machine that asks which of a profile's algorithms the authority takes."""

    def check(data: bytes) -> tuple[tuple[Algorithm, ...], Effects]:
        return narrow(profile, c509.decode_template(data)), ()

    request = Outbound(profile.label, Operation.ATT)
    return Fetch(trust, request, Media.C509_TEMPLATE, check, clock, patience)
