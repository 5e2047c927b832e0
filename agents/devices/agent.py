"""One device: its identity, its key store, and what it does with them over any transport.

    with Device.open(folder) as device:
        async with open_some_transport(device.identity) as transport:
            await device.enroll("meter-ds", transport)
            await device.send("readings", body, transport)

Whatever was begun and not ended is ended first: a stored request is sent again, an unconfirmed
certificate is confirmed. So a message is never signed with a key that the authority may have retired.
"""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from agents.devices.driver import Machine, Progress, run_exchange
from agents.devices.identity import VOUCHER, Identity, IdentityError
from agents.devices.keystore import KeyStore, open_keystore
from agents.devices.messages import deliver
from agents.devices.record import TrustRecord
from agents.devices.status import DeviceStatus, status_of
from protocol import c509
from protocol.cose import Algorithm, PublicKey
from protocol.errors import EnrollmentError, RequestRejected
from protocol.exchange.device import Enrollment, Order, State
from protocol.exchange.device_effects import Credential, Discard
from protocol.exchange.device_fetch import RevocationList, fetch_revocations, fetch_template
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_return import GiveBack
from protocol.exchange.device_trust import Anchor, Trust
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.ports import DeviceTransport
from protocol.profiles import Profile, over_the_air, profile_of
from protocol.validity import Clock
from protocol.voucher import read_voucher

_RANDOM: Final = random.SystemRandom()


class DeviceError(ValueError):
    """What was asked of the device cannot be done as things are; the text is for people."""


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
        self._bootstrap = bootstrap
        self._root = identity.root()
        self._wall = wall
        self._patience = patience or Patience()
        # One exchange at a time: the store's methods run in worker threads and take no locks.
        self._lock = anyio.Lock()

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
        with open_keystore(identity.state, passphrase, _first_owner(identity)) as store:
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
            ExchangeTimeout: Out of time; calling again goes on.
        """
        async with self._lock:
            if afresh and self._store.pending(label) is not None:
                await to_thread.run_sync(self._store.apply, label, Discard())
            if not await self._finish(label, transport, progress):
                await self._obtain(label, Operation.SEN, transport, progress)
            return self._certificate(label)

    async def rekey(
        self, label: str, transport: DeviceTransport, *, progress: Progress | None = None
    ) -> c509.Certificate:
        """Replace the key and certificate of `label`; otherwise as `enroll`."""
        async with self._lock:
            pending = self._store.pending(label)
            was_rekey = pending is not None and pending.op is Operation.SREN
            if not (await self._finish(label, transport, progress) and was_rekey):
                if self._store.current(label) is None:
                    raise DeviceError(f"no certificate under {label} to rekey: enroll first")
                await self._obtain(label, Operation.SREN, transport, progress)
            return self._certificate(label)

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
        label = self.message_label
        async with self._lock:
            await self._finish(label, transport, None)
            credential = self._store.current(label)
            if credential is None:
                raise DeviceError(f"no certificate under {label} to sign with: enroll first")
            counter = await to_thread.run_sync(self._store.next_counter, label)
            wall = self._clock().now
            thumbprint = c509.thumbprint(credential.certificate)
            message = sign_message(credential.signer, thumbprint, stream, body, counter=counter, time=wall)
            await deliver(transport, stream, message, self._patience, _RANDOM.random)
        return len(message)

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
        async with self._lock:
            await self._finish(label, transport, progress)
            current = self._store.current(label)
            if current is None:
                raise DeviceError(f"no certificate under {label} to give back")
            await self._settle_signers(label, transport, progress)
            signer = self._signer(profile_of(label), Operation.REV)
            clock = self._clock()
            machine = GiveBack(
                self._trust(clock), label, current.certificate, signer, reason, clock, self._patience
            )
            await self._run(label, machine, transport, progress)

    async def fetch_revocations(self, transport: DeviceTransport) -> RevocationList:
        """Return the authority's newest revocation list, verified, never an older one than seen before.

        Raises:
            ExchangeTimeout: None came that holds.
        """
        label = self.message_label
        async with self._lock:
            clock = self._clock()
            trust, lowest = self._trust(clock), self._store.trust.crl_number
            machine = fetch_revocations(trust, label, lowest, clock, self._patience)
            await self._run(label, machine, transport, None)
        assert machine.result is not None
        return machine.result

    async def fetch_algorithms(self, label: str, transport: DeviceTransport) -> tuple[Algorithm, ...]:
        """Return which of the profile's algorithms the authority takes, in its own unsigned words.

        Raises:
            ExchangeTimeout: No answer that leaves any.
        """
        async with self._lock:
            clock = self._clock()
            machine = fetch_template(self._trust(clock), profile_of(label), clock, self._patience)
            await self._run(label, machine, transport, None)
        return machine.result or ()

    def take_voucher(self, voucher: bytes) -> None:
        """Accept a new owner, whom the maker or the present owner names; blocks on the disk.

        What the owner before issued is no longer used: enroll again.

        Raises:
            MalformedMessage: Not a voucher.
            RequestRejected: By another key, for another device, or not of a later epoch.
        """
        trust = self._store.trust
        keys: tuple[PublicKey, ...] = (self.identity.voucher_key(),)
        owner = self._trust(self._clock()).public_key
        if owner is not None:
            keys = (*keys, owner)
        read = read_voucher(voucher, keys, device=self.identity.device, lowest_epoch=trust.epoch + 1)
        self._store.take_voucher(read)

    def status(self) -> DeviceStatus:
        """Return what the device holds."""
        return status_of(self.identity, self._store, self._clock())

    @property
    def message_label(self) -> str:
        """The label whose key signs messages: the one that speaks for itself."""
        for label in over_the_air(self.identity.domain):
            profile = profile_of(label)
            if profile.signs and profile.rekeyed_by == label:
                return label
        raise DeviceError(f"no label of {self.identity.domain} signs messages")

    async def _finish(self, label: str, transport: DeviceTransport, progress: Progress | None) -> bool:
        """End what was begun; return whether that gave a current certificate."""
        pending = self._store.pending(label)
        if pending is None:
            return False
        try:
            await self._obtain(label, pending.op, transport, progress)
        except RequestRejected:
            # It was discarded. The caller's own request is another matter.
            return False
        return True

    async def _obtain(
        self, label: str, op: Operation, transport: DeviceTransport, progress: Progress | None
    ) -> None:
        await self._settle_signers(label, transport, progress)
        machine = await to_thread.run_sync(self.prepare, label, op)
        await self._run(label, machine, transport, progress)

    async def _settle_signers(
        self, label: str, transport: DeviceTransport, progress: Progress | None
    ) -> None:
        """End what was begun under the labels that sign for this one: their key may be retired already."""
        profile = profile_of(label)
        signers = {*profile.opened_by, profile.rekeyed_by, profile.confirmed_by} - {None, label}
        for signer in sorted(filter(None, signers)):
            await self._finish(signer, transport, progress)

    def prepare(self, label: str, op: Operation) -> Enrollment:
        """Return the machine that goes on with what is pending under `label`, or else begins `op`.

        Blocks on the disk and on key generation.

        Raises:
            DeviceError: The certificate that opens this door is not there yet.
            StoreError: The passphrase is wrong.
        """
        profile = profile_of(label)
        pending = self._store.pending(label)
        if pending is not None:
            op = pending.op
        requester = self._signer(profile, op)
        confirmer = None if profile.confirmed_by == label else self._signer(profile, Operation.CONF)
        if pending is None:
            new_key = self._store.begin(label, op, profile.algorithms[0])
        else:
            new_key = self._store.pending_key(label)
        clock = self._clock()
        order = Order(
            profile=profile,
            op=op,
            requester=requester,
            new_key=new_key,
            confirmer=confirmer,
            request=None if pending is None else pending.request,
            certificate=None if pending is None else pending.certificate,
        )
        return Enrollment(self._trust(clock), order, clock, self._patience)

    async def _run(
        self, label: str, machine: Machine, transport: DeviceTransport, progress: Progress | None
    ) -> None:
        def on_state(state: State) -> None:
            if progress is not None:
                progress(label, state)

        await run_exchange(
            machine,
            transport,
            lambda effect: self._store.apply(label, effect),
            jitter=_RANDOM.random,
            on_state=on_state,
        )

    def _signer(self, profile: Profile, op: Operation) -> Credential:
        labels = profile.signers_of(op)
        for label in labels:
            credential = self._bootstrap if label == self.identity.label else self._store.current(label)
            if credential is not None:
                return credential
        if not labels:
            raise DeviceError(f"{profile.label} certificates come from the factory only")
        raise DeviceError(
            f"{profile.label} needs a certificate under {' or '.join(labels)}: enroll that first"
        )

    def _certificate(self, label: str) -> c509.Certificate:
        current = self._store.current(label)
        if current is None:
            raise DeviceError(f"no certificate under {label}")
        return c509.decode_certificate(current.certificate)

    def _trust(self, clock: Clock) -> Trust:
        record = self._store.trust
        anchor = Anchor(self.identity.device, self._root, record.authority, record.epoch)
        return Trust(anchor, record.seen, record.chain, clock)

    def _clock(self) -> Clock:
        return Clock(None if self._wall is None else int(self._wall()), self._store.floor)


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


def _first_owner(identity: Identity) -> TrustRecord:
    try:
        voucher = read_voucher(identity.voucher(), (identity.voucher_key(),), device=identity.device)
    except EnrollmentError as error:
        raise IdentityError(f"{identity.folder / VOUCHER}: {error}") from None
    return TrustRecord(voucher.encoded, voucher.authority, voucher.epoch)
