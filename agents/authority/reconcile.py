"""Compares what devices report with what the store expects of them (`trillium reconcile`).

Nothing is written: it runs beside an authority that serves, and reads a page of devices at a time.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agents.authority.differences import (
    Difference,
    Expected,
    Kind,
    Known,
    Subject,
    compare_certificates,
    compare_trust,
)
from agents.authority.domain import read_certificate, read_line
from agents.authority.layout import BadDirectory, Layout, read_settings
from agents.authority.schema import CERTIFICATES, DEVICES, REPORTS
from agents.authority.store import Store
from protocol import c509
from protocol.errors import EnrollmentError, MalformedMessage
from protocol.exchange.facts import CertificateState
from protocol.held import HeldReport, decode_held
from protocol.labels import Domain
from protocol.path import verification_key
from protocol.profiles import PROFILES
from protocol.voucher import key_identifier

MAX_AGE: Final = 3 * 24 * 3600
"""Seconds: a device reports once a day, and may miss two of them."""
_PAGE: Final = 500

_C: Final = CERTIFICATES.c
_D: Final = DEVICES.c
_DEVICES = (
    select(_D.id, _D.name, _D.client_id, _D.domain, _D.epoch, REPORTS.c.received_at, REPORTS.c.body)
    .select_from(DEVICES.outerjoin(REPORTS, REPORTS.c.device_id == _D.id))
    .where(_D.id > bindparam("after"))
    .order_by(_D.id)
    .limit(_PAGE)
)
_KNOWN = select(
    _C.device_id, _C.label, _C.thumbprint, _C.state, _C.not_after, _C.issued_at, _C.ended_at, _D.name
).select_from(CERTIFICATES.join(DEVICES, _D.id == _C.device_id))
_OF_DEVICES = _KNOWN.where(_C.device_id.between(bindparam("first"), bindparam("last")))
_BY_THUMBPRINT = _KNOWN.where(_C.thumbprint.in_(bindparam("thumbprints", expanding=True)))


def expectations(directory: Path) -> dict[Domain, Expected]:
    """Return what the devices of each domain believe, if all is well; no passphrase is needed.

    Raises:
        BadDirectory: A certificate cannot be read.
    """
    layout, settings = Layout(directory), read_settings(directory)
    found: dict[Domain, Expected] = {}
    for domain in settings.domains:
        try:
            root, path = read_line(layout, settings.lines(domain).operator)
            registration = read_certificate(layout.certificate(f"{domain.value}-registration"))
            authority = key_identifier(verification_key(path[0]))
        except (OSError, ValueError, EnrollmentError) as error:
            raise BadDirectory(f"{domain.value} authority: {error}") from None
        chain = tuple(c509.thumbprint(one.encoded) for one in (*path, registration))
        found[domain] = Expected(authority, c509.thumbprint(root.encoded), chain)
    return found


def reconcile(
    store: Store, expected: Mapping[Domain, Expected], now: int, *, max_age: int = MAX_AGE
) -> Iterator[list[Difference]]:
    """Compare every device that has something to report.

    Args:
        store: Open.
        expected: Of `expectations`.
        now: POSIX seconds.
        max_age: Seconds after which a report is too old.

    Yields:
        The differences of one device after the other, none where all is well. Devices that hold no
        certificate under a label that signs messages cannot report, and are passed over.
    """
    after = -1
    while True:
        with store.reading() as connection:
            rows = connection.execute(_DEVICES, {"after": after}).all()
            if not rows:
                return
            reports = {row.id: report for row in rows if (report := _report(row.body)) is not None}
            own = _own(connection, rows[0].id, rows[-1].id)
            others = _others(connection, reports, own)
        for row in rows:
            subject = Subject(row.name, row.client_id, Domain(row.domain), row.epoch)
            known, report = own.get(row.id, ()), reports.get(row.id)
            if report is not None:
                yield _compare(subject, report, row.received_at, known, others, expected, now - max_age)
            elif _may_report(known, now - max_age):
                yield [subject.differs(Kind.SILENT)]
        after = rows[-1].id


def _compare(
    subject: Subject,
    report: HeldReport,
    received_at: int,
    known: Sequence[Known],
    others: Mapping[bytes, Known],
    expected: Mapping[Domain, Expected],
    oldest: int,
) -> list[Difference]:
    found = list(compare_certificates(subject, report, received_at, known, others))
    if subject.domain in expected:
        found += compare_trust(subject, report, expected[subject.domain])
    if received_at < oldest:
        found.append(subject.differs(Kind.LATE))
    order = list(Kind)
    return sorted(found, key=lambda one: order.index(one.kind))


def _may_report(known: Sequence[Known], before: int) -> bool:
    """Return whether a device has had a certificate that signs messages for so long that it has reported."""
    return any(
        one.state is CertificateState.CURRENT
        and one.label in PROFILES
        and PROFILES[one.label].signs_messages
        and one.issued_at < before
        for one in known
    )


def _report(body: bytes | None) -> HeldReport | None:
    try:
        return None if body is None else decode_held(body)
    except MalformedMessage:
        return None  # of another version of this program: it comes again within a day


def _known(row: Sequence[Any]) -> Known:
    _, label, thumbprint, state, not_after, issued_at, ended_at, device = row
    return Known(label, thumbprint, CertificateState(state), not_after, issued_at, ended_at, device)


def _own(connection: Connection, first: int, last: int) -> dict[int, list[Known]]:
    found: dict[int, list[Known]] = defaultdict(list)
    for row in connection.execute(_OF_DEVICES, {"first": first, "last": last}):
        found[row[0]].append(_known(row))
    return found


def _others(
    connection: Connection, reports: Mapping[int, HeldReport], own: Mapping[int, Sequence[Known]]
) -> dict[bytes, Known]:
    """Return the certificates that devices reported and that were issued to others."""
    strange: set[bytes] = set()
    for number, report in reports.items():
        mine = {one.thumbprint for one in own.get(number, ())}
        strange |= {held.thumbprint for held in report.certificates} - mine
    wanted, found = sorted(strange), dict[bytes, Known]()
    for start in range(0, len(wanted), _PAGE):
        rows = connection.execute(_BY_THUMBPRINT, {"thumbprints": wanted[start : start + _PAGE]})
        found |= {row[2]: _known(row) for row in rows}
    return found
