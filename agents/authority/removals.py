"""Which certificates that ended are known to be off the device that held them.

A meter checks no revocation: it believes what it holds until the system takes it away (DLMS
`remove_certificate`, or the import of the next one). So whoever revokes has to hear that this was done.
"""

from typing import Final

from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority.audit import Entry, Event
from agents.authority.inventory import InventoryError, show_device
from agents.authority.schema import CERTIFICATES, REMOVALS
from agents.authority.store import Store, Writing
from protocol.exchange.facts import CertificateState

OPERATOR: Final = "operator"
"""Somebody says so."""
DEVICE: Final = "device"
"""The device gave it back, which ends with its forgetting the key."""
_RECORD = upsert(REMOVALS).on_conflict_do_nothing()
_ENDED: Final = frozenset({CertificateState.REVOKED, CertificateState.SUPERSEDED, CertificateState.VOID})


def record(writing: Writing, certificate_id: int, told_by: str) -> bool:
    """Remember, inside a write transaction, that a certificate is gone; return whether that is news."""
    row = {"certificate_id": certificate_id, "removed_at": writing.now, "told_by": told_by}
    return bool(writing.connection.execute(_RECORD, row).rowcount)


def confirm_removal(store: Store, word: str, serial: bytes, now: int) -> bool:
    """Take an operator's word that a device no longer holds a certificate that ended.

    Args:
        store: Open.
        word: The device's name or client-id.
        serial: Of the certificate, without leading zero.
        now: POSIX seconds.

    Returns:
        Whether that is news.

    Raises:
        InventoryError: No such device or certificate, or one that has not ended: the device needs it.
    """
    device = show_device(store, word)
    held = [one for one in device.certificates if one.serial == serial]
    if not held:
        raise InventoryError(f"{word} never had a certificate {serial.hex()}")
    if held[0].state not in _ENDED:
        raise InventoryError(f"{serial.hex()} is {held[0].state.value}: revoke it before it is removed")
    with store.writing(now) as writing:
        numbers = writing.connection.execute(
            CERTIFICATES.select().where(
                CERTIFICATES.c.serial == serial, CERTIFICATES.c.authority == held[0].authority
            )
        )
        is_new = record(writing, numbers.one().id, OPERATOR)
        if is_new:
            entry = Entry(
                Event.REMOVE, device.client_id, device.name, held[0].label, serial, "the operator says so"
            )
            writing.note(entry)
    return is_new
