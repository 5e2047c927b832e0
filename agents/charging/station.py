"""A charging station: certificates of its own that it keeps in order, and a way to the authority for cars.

    async with open_station([Post(device, back)], evse=…) as station:
        async with serve_somehow(station.handle, station.labels, proofs=station.proofs) as server:
            station.address = server.uris[0]

A station that serves both parts of ISO 15118 has two identities, so two posts. Its own certificate is
enrolled and renewed like any device's (`agents.devices.upkeep`); cars are served meanwhile, and by what is
at hand where the back end is away.
"""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from agents.charging.errands import Bounds, Counts
from agents.charging.journal import Journal
from agents.charging.relay import Back, Relay, open_relay
from agents.devices.agent import Device
from agents.devices.bearer import Bearer, DeviceError
from agents.devices.upkeep import Upkeep
from protocol import c509
from protocol.challenge import Challenge, ProofHandler
from protocol.errors import CertificateUnusable, ProblemKind, RequestRejected, ServiceError
from protocol.ev.station_proof import prove
from protocol.labels import Domain
from protocol.ports import DeviceTransport, Inbound, Reply
from protocol.problem import Problem
from protocol.profiles import over_the_air
from protocol.signing import Signer

CARS_OF: Final[Mapping[str, Domain]] = {"ev-station": Domain.EV_MO, "ev20-station": Domain.EV20_MO}
"""Whose labels a station passes on, by its tier 1 label: cars of its own part of the standard."""
EVERY: Final = 3600.0
"""Seconds between two looks at what is due: certificates live for weeks."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_NOT_YET: Final = Problem(ProblemKind.UNAVAILABLE, "the station has no certificate yet", 2.0)

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """One identity of a station."""

    device: Device
    back: Back
    """Its way to the back end, for its own certificate and for the cars'."""

    @property
    def label(self) -> str:
        """Of the certificate that it shows to cars."""
        return self.device.first_label

    @property
    def cars(self) -> tuple[str, ...]:
        """Labels that cars ask for here.

        Raises:
            DeviceError: Not a station's identity.
        """
        domain = CARS_OF.get(self.device.identity.label)
        if domain is None:
            raise DeviceError(f"{self.device.identity.label} is no station's identity")
        return over_the_air(domain)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a station shows now; its key stays in this process."""

    signer: Signer
    chain: tuple[c509.Certificate, ...]


class Station:
    """Made by `open_station`."""

    def __init__(self, posts: Sequence[Post], relay: Relay, evse: str, journal: Journal) -> None:
        self._posts = posts
        self._relay = relay
        self._evse = evse
        self._journal = journal
        self._shown: dict[str, _Shown] = {}
        self._changed = anyio.Event()
        self.address: str | None = None
        """Where cars reach it; it proves nothing before this is known."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What cars can ask for."""
        return self._relay.labels

    @property
    def proofs(self) -> Mapping[str, ProofHandler]:
        """Who proves which certificate of the station's own."""
        return {post.label: self.prove for post in self._posts}

    @property
    def counts(self) -> Counts:
        """What was carried since the start."""
        return self._relay.counts

    @property
    def kept(self) -> int:
        """Answers that wait for their cars."""
        return self._relay.kept

    @property
    def certificates(self) -> Mapping[str, c509.Certificate]:
        """What it shows now, by label."""
        return {label: shown.chain[0] for label, shown in self._shown.items()}

    async def handle(self, inbound: Inbound) -> Reply:
        """Answer a car: `protocol.ports.Handler`."""
        return await self._relay.handle(inbound)

    async def prove(self, challenge: Challenge) -> bytes | Problem:
        """Show a certificate to a car: `protocol.challenge.ProofHandler`."""
        shown = self._shown.get(challenge.label)
        if shown is None or self.address is None:
            return _NOT_YET
        self._journal.proved(challenge.source, challenge.label)
        return prove(
            shown.signer,
            shown.chain,
            label=challenge.label,
            nonce=challenge.nonce,
            address=self.address,
            evse=self._evse,
        )

    async def until_shown(self) -> None:
        """Wait until there is a certificate to show for every post."""
        while len(self._shown) < len(self._posts):
            await self._changed.wait()

    async def keep(self, post: Post) -> None:
        """Keep one identity's certificates in order, for ever."""
        upkeep = Upkeep(post.device)
        pause = _FIRST_PAUSE
        while True:
            await self._refresh(post)
            try:
                async with post.back() as transport:
                    await self._round(post, upkeep, transport)
            except (RequestRejected, CertificateUnusable, ServiceError, DeviceError) as error:
                _log.warning("upkeep of %s: %s", post.label, error)
                await self._refresh(post)
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                await self._refresh(post)
                pause = _FIRST_PAUSE
                await anyio.sleep(EVERY)

    async def _round(self, post: Post, upkeep: Upkeep, transport: DeviceTransport) -> None:
        if all(held.label != post.label or held.serial is None for held in post.device.status().labels):
            await post.device.enroll(post.label, transport)
            await self._refresh(post)
        done = await upkeep.round(transport)
        for label, why in done.refused:
            _log.warning("upkeep of %s: %s", label, why)

    async def _refresh(self, post: Post) -> None:
        def look(bearer: Bearer) -> _Shown | None:
            try:
                credential = bearer.credential(post.label)
                leaf = c509.decode_certificate(credential.certificate)
                return _Shown(credential.signer, (leaf, *bearer.chain()))
            except DeviceError:
                return None

        shown = await post.device.lend(look)
        if shown is None:
            return
        self._shown[post.label] = shown
        self._journal.certificates[post.label] = c509.thumbprint(shown.chain[0].encoded).hex()
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def open_station(
    posts: Sequence[Post], *, evse: str = "", bounds: Bounds | None = None, journal: Journal | None = None
) -> AsyncGenerator[Station]:
    """Open a station; upkeep and errands end with the block.

    Args:
        posts: Its identities, each of another part of the standard.
        evse: What its operator calls the place.
        bounds: How many cars, how long.
        journal: What was done for whom; None: nowhere.

    Raises:
        DeviceError: An identity is no station's, or two are of one part.
    """
    if len({post.label for post in posts}) != len(posts):
        raise DeviceError("two identities of one part of the standard")
    backs = {label: post.back for post in posts for label in post.cars}
    lists = {post.label: post.back for post in posts}
    journal = journal or Journal(evse)
    relaying = open_relay(backs | lists, lists=frozenset(lists), bounds=bounds, journal=journal)
    async with relaying as relay, anyio.create_task_group() as tasks:
        station = Station(posts, relay, evse, journal)
        for post in posts:
            tasks.start_soon(station.keep, post)
        try:
            yield station
        finally:
            tasks.cancel_scope.cancel()
