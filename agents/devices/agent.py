"""One device: its identity, its key store, and what it does with them over any transport.

    with Device.open(folder) as device:
        async with open_some_transport(device.identity) as transport:
            await device.enroll("meter-ds", transport)
            await device.send("readings", body, transport)

Whatever was begun and not ended is ended first: a stored request is sent again, an unconfirmed
certificate is confirmed. So a message is never signed with a key that the authority may have retired.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from agents.devices.bearer import Bearer, DeviceError, first_owner
from agents.devices.driver import Progress
from agents.devices.errands import RANDOM, Errands
from agents.devices.identity import Identity
from agents.devices.keystore import KeyStore, open_keystore
from agents.devices.messages import deliver
from agents.devices.status import DeviceStatus, status_of
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.device import Enrollment
from protocol.exchange.device_delivery import Delivery
from protocol.exchange.device_effects import Credential, Discard
from protocol.exchange.device_fetch import RevocationList
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.ports import DeviceTransport, Media
from protocol.profiles import profile_of, services_of

__all__ = ["Device", "DeviceError", "open_device"]

T = TypeVar("T")
_ENDED: Final = frozenset({ProblemKind.SIGNER_REVOKED, ProblemKind.SIGNER_SUPERSEDED})
"""Why a message is refused whose sender may have another owner: an unsigned word, worth a question."""


class Device:
    """A device in this process. Use `Device.open`.

    Args:
        identity: What the factory put into it.
        store: Its key store.
        bootstrap: Its tier 1 credential.
        wall: Tells POSIX seconds; None for a device without a clock.
        patience: Limits of its exchanges.
    """

    def __init__(
        self,
        identity: Identity,
        store: KeyStore,
        bootstrap: Credential,
        *,
        wall: Callable[[], float] | None = time.time,
        patience: Patience | None = None,
    ) -> None:
        self.identity: Final = identity
        self._store = store
        self._bearer = Bearer(identity, store, bootstrap, wall, patience or Patience())
        self._errands = Errands(self._bearer, store)

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        passphrase: bytes | None = None,
        *,
        wall: Callable[[], float] | None = time.time,
        patience: Patience | None = None,
    ) -> "Iterator[Device]":
        """Open an identity folder; no other process may have it open. Blocks on the disk.

        Args:
            folder: As the factory made it.
            passphrase: Of the private keys, if they are encrypted.
            wall: Tells POSIX seconds; None for a device without a clock.
            patience: Limits of its exchanges.

        Raises:
            IdentityError: Not an identity folder, or the passphrase is wrong.
            StoreError: In use by another process, or damaged.
        """
        identity = Identity.load(folder)
        bootstrap = identity.bootstrap(passphrase)
        with open_keystore(identity.state, passphrase, first_owner(identity)) as store:
            yield cls(identity, store, bootstrap, wall=wall, patience=patience)

    async def enroll(
        self,
        label: str,
        transport: DeviceTransport,
        *,
        afresh: bool = False,
        progress: Progress | None = None,
    ) -> c509.Certificate:
        """Get the first certificate under `label`, or recover: it retires everything else there.

        Args:
            label: What for.
            transport: Connected.
            afresh: Forget what was begun and not ended, instead of ending it first. For a device whose
                authority has lost or revoked what it was in the middle of.
            progress: Told each state.

        Returns:
            The current certificate; the authority has said that it is.

        Raises:
            DeviceError: The certificate that opens this label is not there yet.
            RequestRejected: The authority's signed no.
            CertificateUnusable: The authority certifies what the device cannot use; it was told why.
            ExchangeTimeout: Out of time; calling again goes on.
        """

        async def action() -> c509.Certificate:
            if afresh and self._store.pending(label) is not None:
                await to_thread.run_sync(self._store.apply, label, Discard())
            if not (self._errands.is_fresh(label) or await self._errands.finish(label, transport, progress)):
                await self._errands.obtain(label, Operation.SEN, transport, progress)
            return self._bearer.certificate(label)

        return await self._errands.as_owned(action, transport, progress)

    async def rekey(
        self, label: str, transport: DeviceTransport, *, progress: Progress | None = None
    ) -> c509.Certificate:
        """Replace the key and certificate of `label`; otherwise as `enroll`."""

        async def action() -> c509.Certificate:
            if self._errands.is_fresh(label):
                return self._bearer.certificate(label)
            pending = self._store.pending(label)
            was_rekey = pending is not None and pending.op is Operation.SREN
            if not (await self._errands.finish(label, transport, progress) and was_rekey):
                if self._store.current(label) is None:
                    raise DeviceError(f"no certificate under {label} to rekey: enroll first")
                await self._errands.obtain(label, Operation.SREN, transport, progress)
            return self._bearer.certificate(label)

        return await self._errands.as_owned(action, transport, progress)

    async def obtain_contract(
        self, transport: DeviceTransport, *, afresh: bool = False, progress: Progress | None = None
    ) -> c509.Certificate:
        """Get the certificate whose key the authority makes, or recover it; otherwise as `enroll`.

        Renewal is `rekey`: signed by the contract itself, not by the car's provisioning key.

        Raises:
            DeviceError: Nothing of the kind is for this device.
        """
        for label in services_of(self.identity.label):
            if profile_of(label).is_key_generated:
                return await self.enroll(label, transport, afresh=afresh, progress=progress)
        raise DeviceError(f"{self.identity.label} devices have no contracts")

    async def send(self, stream: str, body: bytes, transport: DeviceTransport) -> int:
        """Sign one message and deliver it.

        Args:
            stream: What kind of message, [0-9a-z_-]{1,32}.
            body: Any bytes.
            transport: Connected.

        Returns:
            The length of the signed message in bytes.

        Raises:
            DeviceError: No certificate that signs messages.
            RequestRejected: The other side does not take it.
            ExchangeTimeout: It could not be delivered.
        """

        async def action() -> int:
            message = await self._sign(stream, body, transport)
            try:
                await deliver(transport, stream, message, self._bearer.patience, RANDOM.random)
            except RequestRejected as error:
                if error.reason in _ENDED:
                    await self._errands.ask_about(self.message_label, transport, None)
                raise
            return len(message)

        return await self._errands.as_owned(action, transport, None)

    async def check_in(self, transport: DeviceTransport, *, progress: Progress | None = None) -> bool:
        """Ask the authority whether it still knows the device, and go with a new owner if there is one.

        For devices that only send messages: nobody who could be believed answers those.

        Returns:
            Whether the authority said that the certificate which signs messages is the current one; False
            also where there is none, or no answer came within a minute.

        Raises:
            RequestRejected: The authority's signed no.
            OwnerChanged: The new owner's authority is elsewhere: `status().at`; the same call goes on there.
        """
        label = self.message_label

        async def action() -> bool:
            await self._errands.finish(label, transport, progress)
            if self._store.current(label) is None:
                return False
            return await self._errands.ask_about(label, transport, progress)

        return await self._errands.as_owned(action, transport, progress)

    async def sign(self, stream: str, body: bytes, transport: DeviceTransport) -> bytes:
        """Return a signed message, good for once, for whoever delivers it in another way than `send`.

        Raises:
            DeviceError: No certificate that signs messages.
            ExchangeTimeout: What was begun and not ended could not be ended.
        """
        return await self._errands.as_owned(lambda: self._sign(stream, body, transport), transport, None)

    async def _sign(self, stream: str, body: bytes, transport: DeviceTransport) -> bytes:
        label = self.message_label
        await self._errands.finish(label, transport, None)
        credential = self._store.current(label)
        if credential is None:
            raise DeviceError(f"no certificate under {label} to sign with: enroll first")
        counter = await to_thread.run_sync(self._store.next_counter, label)
        wall = self._bearer.clock().now
        thumbprint = c509.thumbprint(credential.certificate)
        return sign_message(credential.signer, thumbprint, stream, body, counter=counter, time=wall)

    async def lend(self, use: Callable[[Bearer], T]) -> T:
        """Return what `use` makes of keys, certificates and trust, in a worker thread and nobody else's turn.

        Cancellation: waits for `use` to end.
        """
        async with self._errands.lock:
            return await to_thread.run_sync(use, self._bearer)

    async def give_back(
        self,
        label: str,
        transport: DeviceTransport,
        reason: RevocationReason = RevocationReason.CESSATION_OF_OPERATION,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Have the current certificate of `label` revoked, and forget it.

        Raises:
            DeviceError: There is none.
            RequestRejected: The authority's signed no.
            ExchangeTimeout: Out of time; calling again tries again.
        """
        epoch = self._store.trust.epoch

        async def action() -> None:
            if self._store.trust.epoch != epoch:
                return  # it ended with the owner who had given it
            await self._errands.finish(label, transport, progress)
            await self._errands.settle_signers(label, transport, progress)
            machine = self._bearer.give_back(label, reason)
            await self._errands.run(label, machine, transport, progress)

        await self._errands.as_owned(action, transport, progress)

    async def fetch_revocations(
        self,
        transport: DeviceTransport,
        *,
        media: Media = Media.PKIX_CRL,
        known: RevocationList | None = None,
    ) -> RevocationList:
        """Return the authority's newest revocation list, verified, never an older one than seen before.

        Args:
            transport: To the authority.
            media: C509_CRL for a quarter of the bytes.
            known: What this returned the last time: then only what is new since travels.

        Raises:
            ExchangeTimeout: None came that holds.
        """
        label = self.first_label
        async with self._errands.lock:
            machine = self._bearer.fetch_revocations(media, known)
            await self._errands.run(label, machine, transport, None)
        assert machine.result is not None
        return machine.result

    async def fetch_algorithms(self, label: str, transport: DeviceTransport) -> tuple[Algorithm, ...]:
        """Return which of the profile's algorithms the authority takes, in its own unsigned words.

        Raises:
            ExchangeTimeout: No answer that leaves any.
        """
        async with self._errands.lock:
            machine = self._bearer.fetch_template(label)
            await self._errands.run(label, machine, transport, None)
        return machine.result or ()

    @property
    def patience(self) -> Patience:
        """Limits of the device's exchanges."""
        return self._bearer.patience

    def take_voucher(self, voucher: bytes) -> None:
        """Accept a new owner, whom the maker or the present owner names; blocks on the disk.

        What the owner before issued is no longer used: enroll again.

        Raises:
            MalformedMessage: Not a voucher.
            RequestRejected: By another key, for another device, or not of a later epoch.
        """
        self._bearer.take_voucher(voucher)

    def status(self) -> DeviceStatus:
        """Return what the device holds."""
        return status_of(self.identity, self._store, self._bearer.clock())

    @property
    def message_label(self) -> str:
        """The label whose key signs messages; DeviceError where none does."""
        return self._bearer.message_label

    @property
    def first_label(self) -> str:
        """The label that is enrolled first, because the tier 1 certificate opens it."""
        return self._bearer.first_label

    def prepare(self, label: str, op: Operation) -> Enrollment | Delivery:
        """Return the machine of `Bearer.prepare`; blocks as that does."""
        return self._bearer.prepare(label, op)


@asynccontextmanager
async def open_device(
    folder: Path,
    passphrase: bytes | None = None,
    *,
    wall: Callable[[], float] | None = time.time,
    patience: Patience | None = None,
) -> AsyncIterator[Device]:
    """Do as `Device.open`, with the disk's work in a worker thread."""
    manager = Device.open(folder, passphrase, wall=wall, patience=patience)
    with anyio.CancelScope(shield=True):
        # The lock and the means to give it back come together.
        device = await to_thread.run_sync(manager.__enter__)
    try:
        yield device
    finally:
        manager.__exit__(None, None, None)
