"""What is coming: renewals, certificates that nobody renews, ends of CAs, growth of the revocation lists.

One pass over the certificates that are current; each one's moment is the one that its device computes, too
(`protocol.renewal`). Nothing is written, so it runs beside an authority that serves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from agents.authority.layout import BadDirectory, Layout
from agents.authority.load import DAY, HOUR, By, Stretch, all_generations, listed, midnight, stretches, whole
from agents.authority.outlook import Bar, CaEnd, Forecast, LabelOutlook, ListOutlook
from agents.authority.revocation import KEPT_AFTER_EXPIRY
from agents.authority.schema import CERTIFICATES, DEVICES
from agents.authority.store import Store
from protocol.exchange.facts import CertificateState
from protocol.labels import Domain
from protocol.profiles import PROFILES, Profile
from protocol.renewal import renewal_time

MAX_DAYS: Final = 3660
"""Ten years: further ahead, profiles and fleets are others."""
GRACE: Final = 2 * DAY
"""Seconds after its moment for which a renewal is still expected today, if half of the time that is left then
is not less: a device that looks once a day may miss a day."""
_PAGE: Final = 10_000

_C: Final = CERTIFICATES.c
_CURRENT = (
    select(_C.label, _C.authority, _C.not_before, _C.not_after, DEVICES.c.name)
    .select_from(CERTIFICATES.join(DEVICES, DEVICES.c.id == _C.device_id))
    .where(_C.state == CertificateState.CURRENT.value)
)
_ENDED = (
    select(_C.label, _C.not_after // DAY, func.count())
    .where(_C.ended_revision.is_not(None))
    .group_by(_C.label, _C.not_after // DAY)
)


def forecast(store: Store, directory: Path, now: int, *, days: int, by: By) -> Forecast:
    """Return what is coming.

    Args:
        store: Open.
        directory: The authority's, for its own certificates.
        now: POSIX seconds.
        days: How far to look ahead, today included; 1 to `MAX_DAYS`.
        by: What one bar stands for.

    Raises:
        ValueError: Too many days, or none.
        BadDirectory: One of its certificates cannot be read.
    """
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"1 to {MAX_DAYS} days")
    begins = midnight(now)
    with store.reading() as connection:
        counts = _count(connection, now, begins, days)
        ended = [(label, day, count) for label, day, count in connection.execute(_ENDED)]
    renewals = {
        label: all_generations(counts.first[label], PROFILES[label]) for label in sorted(counts.first)
    }
    bars = _bars(stretches(begins, days, by), renewals, counts.expiries)
    for label, outlook in counts.labels.items():
        outlook.renewals = sum(bar.renewals.get(label, 0) for bar in bars)
        outlook.expiries = sum(bar.expiries.get(label, 0) for bar in bars)
    return Forecast(
        now,
        begins,
        days,
        by,
        bars,
        tuple(counts.labels[label] for label in sorted(counts.labels)),
        _own_certificates(Layout(directory), counts.longest),
        _lists(ended, renewals, now),
    )


@dataclass(slots=True)
class _Counts:
    """What one pass over the current certificates found."""

    labels: dict[str, LabelOutlook] = field(default_factory=dict[str, LabelOutlook])
    first: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Renewals of each hour, by label."""
    expiries: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By label and day."""
    longest: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """The longest validity that an authority gives, seconds."""


def _count(connection: Connection, now: int, begins: int, days: int) -> _Counts:
    counts = _Counts()
    end = begins + days * DAY
    result = connection.execution_options(yield_per=_PAGE).execute(_CURRENT)
    for page in result.partitions(_PAGE):
        for label, authority, not_before, not_after, device in page:
            profile = PROFILES.get(label)
            if profile is None:
                continue  # of a version that knew more labels
            outlook = counts.labels.get(label)
            if outlook is None:
                outlook = counts.labels[label] = LabelOutlook(label)
                counts.first[label] = [0] * (days * DAY // HOUR)
            if profile.is_over_the_air and profile.validity is not None:
                counts.longest[authority] = max(profile.validity, counts.longest.get(authority, 0))
            outlook.current += 1
            due = _moment(profile, not_before, not_after, device, now)
            if due is not None:
                if due < end:
                    counts.first[label][(due - begins) // HOUR] += 1
            elif not_after is not None:
                outlook.silent += profile.is_over_the_air
                outlook.lapsed += not_after < now
                if now <= not_after < end:
                    counts.expiries[label][(not_after - begins) // DAY] += 1
    return counts


def _moment(profile: Profile, not_before: int, not_after: int | None, device: str, now: int) -> int | None:
    """Return when the successor is expected, from `now` on; None if none is."""
    due = renewal_time(profile, not_before, not_after, device)
    if due is None or due >= now:
        return due
    assert not_after is not None  # what never ends is never due
    return now if now < due + min(GRACE, (not_after - due) // 2) else None


def _bars(
    cut: tuple[Stretch, ...], renewals: Mapping[str, list[float]], expiries: Mapping[str, Counter[int]]
) -> tuple[Bar, ...]:
    begins = cut[0].begins
    days = [range((one.begins - begins) // DAY, (one.begins - begins) // DAY + one.days) for one in cut]
    per_day = DAY // HOUR
    loads = {
        label: whole(sum(counts[day.start * per_day : day.stop * per_day]) for day in days)
        for label, counts in renewals.items()
    }
    ends = {label: [sum(counts[day] for day in one) for one in days] for label, counts in expiries.items()}
    return tuple(
        Bar(
            stretch,
            {label: counts[index] for label, counts in loads.items() if counts[index]},
            {label: counts[index] for label, counts in ends.items() if counts[index]},
        )
        for index, stretch in enumerate(cut)
    )


def _own_certificates(layout: Layout, longest: Mapping[bytes, int]) -> tuple[CaEnd, ...]:
    found: list[CaEnd] = []
    for path in sorted(layout.certificates.glob("*.pem")):
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadDirectory(f"{path}: {error}") from None
        not_after: int | None = int(certificate.not_valid_after_utc.timestamp())
        if certificate.not_valid_after_utc.year == 9999:
            not_after = None
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        validity = longest.get(sha256(key).digest())
        shortens_from = None if validity is None or not_after is None else not_after - validity
        found.append(CaEnd(path.stem, not_after, shortens_from))
    return tuple(sorted(found, key=lambda ca: (ca.not_after is None, ca.not_after or 0, ca.name)))


def _lists(
    ended: Iterable[tuple[str, int | None, int]], renewals: Mapping[str, list[float]], now: int
) -> tuple[ListOutlook, ...]:
    """Return what becomes of the revocation lists: entries leave when their certificates have ended."""
    changes: dict[Domain, list[float]] = {}
    for label, loads in renewals.items():
        change = changes.setdefault(PROFILES[label].domain, [0.0] * len(loads))
        for hour, more in enumerate(listed(loads, PROFILES[label], KEPT_AFTER_EXPIRY)):
            change[hour] += more
    entries: Counter[Domain] = Counter()
    begins = midnight(now)
    for label, day, count in ended:
        leaves = None if day is None else (day + 1) * DAY + KEPT_AFTER_EXPIRY
        if label not in PROFILES or (leaves is not None and leaves <= now):
            continue
        domain = PROFILES[label].domain
        entries[domain] += count
        change = changes.setdefault(domain, [])
        if leaves is not None and (leaves - begins) // HOUR < len(change):
            change[(leaves - begins) // HOUR] -= count
    found: list[ListOutlook] = []
    for domain, change in changes.items():
        level = most = float(entries[domain])
        for step in change:
            level += step
            most = max(most, level)
        if most:
            found.append(ListOutlook(domain, entries[domain], round(most)))
    return tuple(found)
