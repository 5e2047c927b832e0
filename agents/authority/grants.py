"""Ending what is granted to devices, inside somebody's transaction."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, update

from agents.authority.audit import Entry, Event
from agents.authority.provision import READY
from agents.authority.schema import DEVICES, GRANTS, INSTALLATIONS, KEYS, PACKAGES
from agents.authority.store import Writing

_G: Final = GRANTS.c
_I: Final = INSTALLATIONS.c
_OF_DEVICES = (
    select(GRANTS, DEVICES.c.client_id, DEVICES.c.name.label("device"))
    .select_from(GRANTS.join(DEVICES, DEVICES.c.id == _G.device_id))
    .where(_G.device_id.in_(bindparam("devices", expanding=True)), _G.ended_at.is_(None))
)
_END = update(GRANTS).where(_G.id == bindparam("grant")).values(ended_at=bindparam("now"))
_KEPT = (
    select(_I.certificate_id, _I.stage, KEYS.c.serial)
    .select_from(INSTALLATIONS.join(KEYS, KEYS.c.id == _I.certificate_id))
    .where(_I.grant_id == bindparam("grant"))
)
_FORGET = delete(INSTALLATIONS).where(_I.certificate_id.in_(bindparam("numbers", expanding=True)))
_FORGET_PACKAGES = delete(PACKAGES).where(PACKAGES.c.certificate_id.in_(bindparam("numbers", expanding=True)))


def end_grants(writing: Writing, devices: Sequence[int], detail: str) -> None:
    """End whatever is granted to these devices; their certificates are the caller's to revoke."""
    for grant in writing.connection.execute(_OF_DEVICES, {"devices": list(devices)}).all():
        end_grant(writing, grant, detail)


def end_grant(writing: Writing, grant: Any, detail: str) -> None:  # noqa: ANN401 (a database row)
    """End one grant, a row of `grants` with its device's name and client-id; its certificates stay."""
    connection = writing.connection
    connection.execute(_END, {"grant": grant.id, "now": writing.now})
    kept = connection.execute(_KEPT, {"grant": grant.id}).all()
    forget(writing, [row.certificate_id for row in kept])
    for row in kept:
        if row.stage == READY:
            detail_of_row = "prepared, and nobody asked for it"
            writing.note(
                Entry(Event.VOID, grant.client_id, grant.device, grant.label, row.serial, detail_of_row)
            )
    words = f"{grant.name} of {grant.tenant}: {detail}"
    writing.note(Entry(Event.WITHDRAW, grant.client_id, grant.device, grant.label, None, words))


def forget(writing: Writing, numbers: Sequence[int]) -> None:
    """Forget the wrapped keys and packages of these certificates."""
    if numbers:
        writing.connection.execute(_FORGET, {"numbers": list(numbers)})
        writing.connection.execute(_FORGET_PACKAGES, {"numbers": list(numbers)})
