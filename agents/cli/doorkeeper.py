"""Says which device a TLS client certificate names, for the embedded broker."""

from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agents.authority import InventoryError, Layout, Store, show_device
from agents.authority.lookup import signer_records
from broker.access import Identity
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.exchange.facts import CertificateState
from protocol.labels import Tier
from protocol.profiles import profile_of

MAX_KNOWN: Final = 4096
"""Certificates remembered between two revocations; a known one costs no look at the store."""


class Doorkeeper:
    """Looks certificates up in a store of its own connections, so that it waits for nobody.

    Asked in the event loop, once for each TLS connection: a look at the store takes a tenth of what the
    handshake before it took.
    """

    def __init__(self, directory: Path) -> None:
        self._store = Store(Layout(directory).store)
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

    def identify(self, certificate: bytes) -> Identity | None:
        """Return the device that a verified client certificate (DER) names; None refuses it."""
        try:
            thumbprint = c509.thumbprint(c509.from_der(certificate).encoded)
        except EnrollmentError:
            return None
        revision = self._store.revision()
        if revision != self._revision:
            self._known.clear()
            self._revision = revision
        identity = self._known.get(thumbprint)
        # A newcomer may have got its owner since: that does not count as a new revision.
        if identity is None or identity.tier is Tier.BOOTSTRAPPING:
            identity = self._known[thumbprint] = self._find(thumbprint)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return identity

    def _find(self, thumbprint: bytes) -> Identity | None:
        with self._store.reading() as connection:
            record = signer_records(connection, [thumbprint])[thumbprint]
        if record is None or record.state is not CertificateState.CURRENT:
            return None
        try:
            device = show_device(self._store, record.client_id)
        except InventoryError:
            return None
        tiers = [
            profile_of(held.label).tier
            for held in device.certificates
            if held.state is CertificateState.CURRENT
        ]
        return Identity(record.client_id, max(tiers))
