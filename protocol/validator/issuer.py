"""What is wrong with one certificate as an issuer on a path: everything but its signature on the child."""

from collections.abc import Iterator

from protocol import c509
from protocol.c509 import ExtensionId, KeyPurpose
from protocol.profiles import labels_of_policies
from protocol.validator.extension_rules import extension_complaints
from protocol.validator.leaf import encoding_complaints, usage_names
from protocol.validator.listed import UNENFORCED, Listed, extension_name, listed, policies_of
from protocol.validator.period import check_time
from protocol.validator.policy import Policy
from protocol.validator.reasons import Finding, Reason
from protocol.validator.sentences import Complaint, findings_of, place_of
from protocol.validator.subject import role_complaints
from protocol.validity import Clock


def issuer_findings(
    certificate: c509.Certificate,
    below: tuple[c509.Certificate, ...],
    policy: Policy,
    clock: Clock,
    *,
    is_root: bool,
) -> list[Finding]:
    """Return everything that is wrong with `certificate` as the issuer of a path's last certificate.

    Args:
        certificate: The issuer.
        below: The path so far, the leaf first.
        policy: What is asked of it.
        clock: What is known of the time.
        is_root: Whether it is one of the trust anchors.
    """
    has = listed(certificate)
    found: list[Complaint] = list(_ca_complaints(certificate, has, below, policy, is_root=is_root))
    found += extension_complaints(has, policy.root_extensions if is_root else policy.ca_extensions)
    for number in UNENFORCED & has.found.keys():
        assert isinstance(number, int)
        found.append((Reason.UNHANDLED_CONSTRAINT, f"has {extension_name(number)}, not enforced here"))
    role = policy.root_role if is_root else policy.ca_role
    if role is not None:
        found += role_complaints(certificate, role)
    if is_root:
        if certificate.issuer_name != certificate.subject:
            found.append((Reason.NOT_A_ROOT, "is given as a root, but names another issuer"))
    else:
        found += encoding_complaints(certificate, policy)
        found += _purpose_complaints(has, policy)
    is_asked = policy.label is not None and (not is_root or len(below) == 1)
    if is_asked and policy.label not in labels_of_policies(policies_of(certificate)):
        found.append((Reason.LABEL, f"is not permitted to issue {policy.label}"))
    _, late = check_time(certificate, clock, policy)
    if late is not None:
        found.append(late)
    return findings_of(place_of(len(below), is_root=is_root), certificate, found, policy)


def _ca_complaints(
    certificate: c509.Certificate,
    has: Listed,
    below: tuple[c509.Certificate, ...],
    policy: Policy,
    *,
    is_root: bool,
) -> Iterator[Complaint]:
    constraint: int | None = has.value(ExtensionId.BASIC_CONSTRAINTS)
    if constraint is None or constraint < -1:
        said = "CA:FALSE" if constraint is not None else "nothing"
        yield Reason.NOT_A_CA, f"is no CA's: basic constraints say {said}"
    else:
        # A self-issued certificate (a new key of the same CA) is no further step down (RFC 5280 §6.1.4 l).
        cas_below = sum(ca.issuer_name != ca.subject for ca in below[1:])
        if 0 <= constraint < cas_below:
            yield Reason.PATH_LENGTH, f"permits {constraint} CAs below it; there are {cas_below}"
        elif policy.exact_path_lengths and not is_root and constraint != cas_below:
            said = "none" if constraint == -1 else str(constraint)
            yield Reason.PATH_LENGTH, f"has path length {said}; its place asks for {cas_below}"
    usage: int | None = has.value(ExtensionId.KEY_USAGE)
    missing = policy.ca_key_usage & ~(usage or 0)
    if missing:
        yield Reason.KEY_USAGE, f"lacks key usage {usage_names(missing)}"


def _purpose_complaints(has: Listed, policy: Policy) -> Iterator[Complaint]:
    """Yield what is wrong with a CA's extended key usages: they narrow what is below it.

    RFC 5280 gives them no meaning on a CA, practice does. Where the policy names no purpose there is
    nothing to compare; a critical one then refuses the CA.
    """
    extension = has.found.get(ExtensionId.EXTENDED_KEY_USAGE)
    listed_purposes: tuple[int | bytes, ...] = has.value(ExtensionId.EXTENDED_KEY_USAGE) or ()
    purposes = frozenset(listed_purposes)
    if extension is None or KeyPurpose.ANY in purposes:
        return
    wanted = policy.extended_key_usage
    if not wanted:
        if extension.critical:
            yield Reason.EXTENDED_KEY_USAGE, "is for other purposes only"
    elif not wanted <= purposes:
        yield Reason.EXTENDED_KEY_USAGE, "is not for the leaf's purposes"


def key_identifier(certificate: c509.Certificate) -> bytes | None:
    """Return the subject key identifier, if there is one that can be read."""
    identifier: bytes | None = certificate.extension(ExtensionId.SUBJECT_KEY_IDENTIFIER)
    return identifier


def authority_identifier(certificate: c509.Certificate) -> bytes | None:
    """Return the issuer's key identifier that a certificate names, if it can be read."""
    named: bytes | c509.AuthorityKeyIdentifier | None = certificate.extension(
        ExtensionId.AUTHORITY_KEY_IDENTIFIER
    )
    return named.key_identifier if isinstance(named, c509.AuthorityKeyIdentifier) else named


def is_named_issuer(child: c509.Certificate, issuer: c509.Certificate) -> bool:
    """Return whether the child's authority key identifier, where it says something, names `issuer`."""
    named = child.extension(ExtensionId.AUTHORITY_KEY_IDENTIFIER)
    if named is None:
        return True
    own = key_identifier(issuer)
    if own is not None and authority_identifier(child) != own:
        return False
    if isinstance(named, c509.AuthorityKeyIdentifier):
        if named.serial != issuer.serial:
            return False
        directories = [
            name.value for name in named.issuer if name.type == c509.GeneralNameType.DIRECTORY_NAME
        ]
        return not directories or issuer.issuer_name in directories
    return True
