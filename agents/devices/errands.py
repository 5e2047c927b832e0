"""What a device does at its authority, one exchange after the other, whoever owns it meanwhile.

Whatever was begun and not ended is ended first. And where the authority answers that the device has another
owner, whose voucher holds, the device goes with that one: what the owner before had given was forgotten with
the voucher, so it is asked of the next one, and then the errand is done once more.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from agents.devices.bearer import Bearer, DeviceError
from agents.devices.driver import Machine, Progress, run_exchange
from agents.devices.keystore import KeyStore
from protocol.errors import CertificateUnusable, ExchangeTimeout, OwnerChanged, RequestRejected
from protocol.exchange.device import State
from protocol.exchange.device_pace import Pace
from protocol.labels import Operation
from protocol.ports import DeviceTransport
from protocol.profiles import profile_of

RANDOM: Final = random.SystemRandom()
MAX_UNUSABLE: Final = 3
"""Certificates that one call asks for and cannot use, each for a new key and after a pause: one may be a
slip, and what is wrong with three people must mend. Each stays on the revocation list until it expires."""
MAX_OWNERS: Final = 8
"""Changes of owner that one call follows; an authority that names more is at fault."""

T = TypeVar("T")


class Errands:
    """Runs the exchanges of one device.

    Args:
        bearer: Makes the machines.
        store: The device's key store.
    """

    def __init__(self, bearer: Bearer, store: KeyStore) -> None:
        self._bearer = bearer
        self._store = store
        self._fresh: set[str] = set()
        # One exchange at a time: the store's methods run in worker threads and take no locks.
        self.lock: Final = anyio.Lock()
        """Whoever uses the store has it."""

    async def as_owned(
        self, errand: Callable[[], Awaitable[T]], transport: DeviceTransport, progress: Progress | None
    ) -> T:
        """Do `errand` for whoever owns the device, under the lock.

        Raises:
            OwnerChanged: The next owner's authority is elsewhere; the same call goes on there.
            DeviceError: Owner after owner, without end.
        """
        async with self.lock:
            self._fresh.clear()
            for _ in range(MAX_OWNERS):
                try:
                    await self._settle_in(transport, progress)
                    return await errand()
                except OwnerChanged as change:
                    if change.at is not None:
                        raise
        raise DeviceError(f"{MAX_OWNERS} owners, one after the other: its authority is at fault")

    async def _settle_in(self, transport: DeviceTransport, progress: Progress | None) -> None:
        """Ask the present owner for what the one before had given."""
        for label in self._store.trust.wanted:
            try:
                # What is granted by name, the device asks for when it needs it.
                if self._store.current(label) is None and not profile_of(label).is_key_generated:
                    await self.obtain(label, Operation.SEN, transport, progress)
                    self._fresh.add(label)
            except OwnerChanged:
                raise
            except (RequestRejected, DeviceError):
                if label == self._bearer.first_label:
                    raise  # perhaps the new owner does not know of its luck yet: it is asked again next time
                # Not everybody gives the same; whoever needs this is told so when they ask for it.
            await to_thread.run_sync(self._store.settle, label)

    def is_fresh(self, label: str) -> bool:
        """Return whether `label` has just got its key and certificate, because the owner is new."""
        return label in self._fresh and self._store.current_certificate(label) is not None

    async def finish(self, label: str, transport: DeviceTransport, progress: Progress | None) -> bool:
        """End what was begun; return whether that gave a current certificate."""
        pending = self._store.pending(label)
        if pending is None:
            return False
        try:
            await self.obtain(label, pending.op, transport, progress)
        except OwnerChanged:
            raise
        except RequestRejected:
            # It was discarded. The caller's own request is another matter.
            return False
        return True

    async def obtain(
        self, label: str, op: Operation, transport: DeviceTransport, progress: Progress | None
    ) -> None:
        """Get a certificate, or go on with what is pending."""
        await self.settle_signers(label, transport, progress)
        patience = self._bearer.patience
        pace = Pace(patience, anyio.current_time())
        for attempt in range(MAX_UNUSABLE):
            machine = await to_thread.run_sync(self._bearer.prepare, label, op)
            try:
                await self.run(label, machine, transport, progress)
            except CertificateUnusable:
                if attempt == MAX_UNUSABLE - 1:
                    raise
            else:
                return
            pace.sent(anyio.current_time())
            pace.pause(anyio.current_time(), RANDOM.random(), patience.pause)
            await anyio.sleep_until(pace.deadline)

    async def settle_signers(self, label: str, transport: DeviceTransport, progress: Progress | None) -> None:
        """End what was begun under the labels that sign for this one: their key may be retired already."""
        profile = profile_of(label)
        signers = {*profile.opened_by, profile.rekeyed_by, profile.confirmed_by} - {None, label}
        for signer in sorted(filter(None, signers)):
            await self.finish(signer, transport, progress)

    async def ask_about(self, label: str, transport: DeviceTransport, progress: Progress | None) -> bool:
        """Have the authority say, signed, what is with the current certificate.

        Returns:
            Whether it answered: that the certificate is current. Its no is raised.
        """
        with suppress(ExchangeTimeout):
            machine = await to_thread.run_sync(self._bearer.check_in, label)
            await self.run(label, machine, transport, progress)
            return True
        return False

    async def run(
        self, label: str, machine: Machine, transport: DeviceTransport, progress: Progress | None
    ) -> None:
        """Run one exchange to its end."""

        def on_state(state: State) -> None:
            if progress is not None:
                progress(label, state)

        await run_exchange(
            machine,
            transport,
            lambda effect: self._store.apply(label, effect),
            jitter=RANDOM.random,
            on_state=on_state,
        )
