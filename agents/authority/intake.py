"""Taking over devices that another maker made: every certificate is judged before one is entered.

What is judged, in this order: that the certificate is one, its label's profile (`protocol.lint`), the path to
its maker's root (`protocol.validator`), the name (that of the list, once only, the maker's to give), and the
inventory (known already; or the name or key is another's).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select

from agents.authority.inventory import NewDevice, register_devices
from agents.authority.schema import CERTIFICATES, DEVICES, KEYS
from agents.authority.store import Store
from agents.factory.sheet import Wrong
from protocol import c509
from protocol.end_entity import holder_of
from protocol.errors import EnrollmentError, RequestRejected
from protocol.exchange.authority_rules import key_hash
from protocol.identity import client_id
from protocol.lint import Deviation, lint, lint_der
from protocol.path import Authority, check_leaf
from protocol.profiles import Profile, labels_of_policies, services_of
from protocol.validator import PathRejected, policy_of, validate
from protocol.validator.listed import policies_of
from protocol.validity import Clock

CHUNK = 1000
"""Devices entered in one transaction: a running authority waits for a fraction of a second."""
MAX_FINDINGS = 3
"""Deviations told of one certificate; `trillium lint` tells all."""
_PAGE = 500
_KNOWN = (
    select(DEVICES.c.client_id, CERTIFICATES.c.encoded)
    .select_from(
        DEVICES.outerjoin(
            CERTIFICATES, (CERTIFICATES.c.device_id == DEVICES.c.id) & CERTIFICATES.c.parent_id.is_(None)
        )
    )
    .where(DEVICES.c.client_id.in_(bindparam("ids", expanding=True)))
)
_KEYS = select(KEYS.c.key_hash).where(KEYS.c.key_hash.in_(bindparam("hashes", expanding=True)))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One certificate as it was found."""

    where: str
    """"line 3", a file's name, or which one of a file."""
    device: str = ""
    """What the list beside it calls the device; empty if nothing does."""
    certificate: c509.Certificate | None = None
    der: bytes | None = None
    """Its DER as it was found, perhaps broken."""
    problem: str = ""
    """Why there is no certificate to look at."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """A maker whose devices are looked at."""

    authority: Authority
    chain: Sequence[c509.Certificate]
    """Its issuing CA first, its root last."""


@dataclass(slots=True)
class Intake:
    """What came of looking at all of them."""

    good: list[NewDevice] = field(default_factory=list[NewDevice])
    known: int = 0
    """Devices that the inventory has, with the same certificate."""
    wrong: list[Wrong] = field(default_factory=list[Wrong])


class Judge:
    """Judges certificates of one maker under one label.

    Args:
        trusted: The maker.
        profile: Of a tier 1 label.
        now: POSIX seconds.
    """

    def __init__(self, trusted: Trusted, profile: Profile, now: int) -> None:
        self._maker = trusted.authority
        self._chain = trusted.chain
        self._profile = profile
        self._clock = Clock(now)
        is_ours = profile.label in labels_of_policies(policies_of(trusted.chain[0]))
        self._policy = policy_of(profile, is_ours=is_ours)
        self._services = services_of(profile.label)
        self._names: dict[str, str] = {}
        self._keys: dict[bytes, str] = {}

    def judge(self, arrival: Arrival) -> NewDevice | Wrong:
        """Return the device that a certificate names, or what is wrong."""
        certificate = arrival.certificate
        if certificate is None:
            return Wrong(arrival.where, arrival.device, self._unreadable(arrival))
        try:
            name = holder_of(certificate, self._profile)
        except RequestRejected:
            name = ""  # the profile's judgement says why
        try:
            reason = self._fault(certificate, arrival, name)
        except RequestRejected as error:
            reason = error.detail
        except EnrollmentError as error:
            reason = str(error)
        if reason:
            return Wrong(arrival.where, name or arrival.device or certificate.subject.text, reason)
        return NewDevice(
            name,
            self._profile.label,
            self._maker.key_id,
            client_id(self._maker.key_id, name),
            self._services,
            certificate.encoded,
        )

    def _unreadable(self, arrival: Arrival) -> str:
        if arrival.der is None:
            return arrival.problem
        deviations = lint_der(arrival.der, self._profile.label)
        return _in_words(deviations) if deviations else arrival.problem

    def _fault(self, certificate: c509.Certificate, arrival: Arrival, name: str) -> str | None:
        """Return what is wrong with a certificate, or raise RequestRejected; None if nothing is."""
        # Without its issuer: whether that one signed it, the path says.
        deviations = lint(certificate, arrival.der, self._profile)
        errors = [one for one in deviations if one.is_error]
        if errors:
            return _in_words(errors)
        try:
            validate(certificate, self._chain[:-1], self._chain[-1:], policy=self._policy, clock=self._clock)
        except PathRejected as error:
            return str(error)
        check_leaf(certificate, self._maker, self._profile)
        if arrival.der is None and not c509.is_canonical(certificate):
            return "it is encoded in another way than ours"
        if arrival.device and arrival.device != name:
            return f"the certificate is another device's than the list says, {arrival.device}"
        first = self._names.setdefault(name, arrival.where)
        if first != arrival.where:
            return f"the same name as {first}"
        first = self._keys.setdefault(certificate.public_key, arrival.where)
        return None if first == arrival.where else f"the same key as {first}"


def look_at(
    arrivals: Iterable[Arrival], judge: Judge, store: Store, progress: Callable[[int], None] | None = None
) -> Intake:
    """Return what comes of certificates; nothing is entered.

    Args:
        arrivals: In the order of the list.
        judge: Of their maker and label.
        store: The inventory.
        progress: Told now and then how many were looked at.
    """
    intake = Intake()
    page: list[tuple[Arrival, NewDevice]] = []
    for number, arrival in enumerate(arrivals):
        if progress is not None and number % _PAGE == 0:
            progress(number)
        found = judge.judge(arrival)
        if isinstance(found, Wrong):
            intake.wrong.append(found)
            continue
        page.append((arrival, found))
        if len(page) == _PAGE:
            _compare(page, store, intake)
            page.clear()
    _compare(page, store, intake)
    return intake


def _compare(page: Sequence[tuple[Arrival, NewDevice]], store: Store, intake: Intake) -> None:
    """Sort devices into those that are new, those that are known, and those that are another's."""
    certificates = [c509.decode_certificate(device.certificate or b"") for _, device in page]
    hashes = [_key_hash(certificate) for certificate in certificates]
    with store.reading() as connection:
        rows = connection.execute(_KNOWN, {"ids": [device.client_id for _, device in page]}).all()
        used = set(connection.execute(_KEYS, {"hashes": hashes}).scalars())
    known = {row[0]: row[1] for row in rows}
    for (arrival, device), digest in zip(page, hashes, strict=True):
        if device.client_id not in known:
            if digest in used:
                intake.wrong.append(Wrong(arrival.where, device.name, "its key was certified before"))
            else:
                intake.good.append(device)
        elif known[device.client_id] == device.certificate:
            intake.known += 1
        else:
            reason = "is registered already, with another certificate"
            intake.wrong.append(Wrong(arrival.where, device.name, reason))


def _key_hash(certificate: c509.Certificate) -> bytes:
    algorithm = certificate.public_key_algorithm
    assert isinstance(algorithm, int)  # the profile said so
    return key_hash(algorithm, certificate.public_key)


def enter(store: Store, devices: Sequence[NewDevice], maker: Authority, now: int) -> Iterator[int]:
    """Enter devices into the inventory, some at a time; a second time changes nothing.

    Yields:
        How many are entered so far.

    Raises:
        InventoryError: Somebody else has entered one of them in the meantime.
    """
    done = 0
    for start in range(0, len(devices), CHUNK):
        chunk = devices[start : start + CHUNK]
        register_devices(store, chunk, now, (maker,))
        done += len(chunk)
        yield done


def _in_words(deviations: Sequence[Deviation]) -> str:
    more = len(deviations) - MAX_FINDINGS
    words = "; ".join(str(one) for one in deviations[:MAX_FINDINGS])
    return f"{words}; and {more} more deviations" if more > 0 else words
