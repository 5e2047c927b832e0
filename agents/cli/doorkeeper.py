"""Says which devices TLS client certificates name, for the embedded broker, and when to ask again."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
from anyio import CapacityLimiter, to_thread
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import Layout, Store
from agents.authority.lookup import signer_records
from agents.authority.schema import CERTIFICATES, DEVICES
from agents.authority.store import in_words
from broker.access import Identity
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.exchange.facts import CertificateState
from protocol.labels import Tier
from protocol.profiles import profile_of

MAX_KNOWN: Final = 4096
"""Certificates remembered between two revocations; a known one costs no look at the store."""
MAX_ASKED: Final = 512
"""Certificates in one question to the store: it fits SQLite's limit of parameters."""
PERIOD: Final = 0.25
"""Seconds between two looks whether some certificate ended: a revocation counts within a second."""

_LOG: Final = logging.getLogger(__name__)
_CURRENT: Final = (
    select(DEVICES.c.client_id, CERTIFICATES.c.label)
    .select_from(CERTIFICATES.join(DEVICES, DEVICES.c.id == CERTIFICATES.c.device_id))
    .where(
        DEVICES.c.client_id.in_(bindparam("clients", expanding=True)),
        CERTIFICATES.c.state == CertificateState.CURRENT.value,
    )
)


class Doorkeeper:
    """Looks certificates up in a store of its own connections, so that it waits for nobody.

    One look at a time, each in a worker thread: the broker's front door awaits it between CONNECT and
    CONNACK (amqtt's own code never calls it). Looks come back in the order in which they were asked for, so
    whoever was let in just before a certificate ended is connected when `watch` reviews the connections.
    """

    def __init__(self, directory: Path) -> None:
        self._store = Store(Layout(directory).store)
        self._turn = CapacityLimiter(1)
        self._known: OrderedDict[bytes, Identity | None] = OrderedDict()
        self._revision = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()

    async def identify(self, certificates: Sequence[bytes]) -> Sequence[Identity | None]:
        """Return the devices that verified client certificates (DER) name: `broker.embedded.Identify`.

        Raises:
            SQLAlchemyError: The store cannot be read.
        """
        return await to_thread.run_sync(self._identify, certificates, limiter=self._turn)

    async def watch(self, review: Callable[[], Awaitable[None]]) -> None:
        """Await `review` whenever some certificate ended, whichever process ended it; until cancelled."""
        reviewed: int | None = None
        while True:
            try:
                revision = await to_thread.run_sync(self._store.revision, limiter=self._turn)
                if revision != reviewed:
                    await review()
                    reviewed = revision
            except (SQLAlchemyError, OSError) as error:
                _LOG.error("connections cannot be reviewed", extra={"error": in_words(error)})
            await anyio.sleep(PERIOD)

    def _identify(self, certificates: Sequence[bytes]) -> list[Identity | None]:
        revision = self._store.revision()
        if revision != self._revision:
            self._known.clear()
            self._revision = revision
        thumbprints = [_thumbprint(certificate) for certificate in certificates]
        found = {thumbprint: self._known.get(thumbprint) for thumbprint in thumbprints if thumbprint}
        # A newcomer may have got its owner since: that does not count as a new revision.
        unknown = [
            thumbprint
            for thumbprint, identity in found.items()
            if identity is None or identity.tier is Tier.BOOTSTRAPPING
        ]
        for start in range(0, len(unknown), MAX_ASKED):
            with self._store.reading() as connection:
                found |= _find(connection, unknown[start : start + MAX_ASKED])
        for thumbprint in unknown:
            self._known[thumbprint] = found[thumbprint]
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return [None if thumbprint is None else found[thumbprint] for thumbprint in thumbprints]


@lru_cache(maxsize=MAX_KNOWN)
def _thumbprint(certificate: bytes) -> bytes | None:
    """Return the thumbprint by which the store knows a certificate (DER); None if it is none of ours.

    Remembered (4 MiB at most), because a review asks for all that are connected.
    """
    try:
        return c509.thumbprint(c509.from_der(certificate).encoded)
    except EnrollmentError:
        return None


def _find(connection: Connection, thumbprints: Sequence[bytes]) -> dict[bytes, Identity | None]:
    records = signer_records(connection, thumbprints)
    clients = {
        thumbprint: record.client_id
        for thumbprint, record in records.items()
        if record is not None and record.state is CertificateState.CURRENT
    }
    tiers: dict[str, Tier] = {}
    for client_id, label in connection.execute(_CURRENT, {"clients": list(set(clients.values()))}):
        tiers[client_id] = max(profile_of(label).tier, tiers.get(client_id, Tier.BOOTSTRAPPING))
    return {
        thumbprint: None
        if (client_id := clients.get(thumbprint)) is None
        else Identity(client_id, tiers[client_id])
        for thumbprint in thumbprints
    }
