"""What the tests of paths build and ask: a world, chains of its CAs, verdicts on them."""

from collections.abc import Sequence

import pytest

from protocol import c509
from protocol.errors import ProblemKind, RequestRejected
from protocol.path import Authority, verify_authority, verify_leaf
from protocol.profiles import Profile, profile_of
from protocol.validity import Clock
from tests.world import NOW, Ca, World

CLOCK = Clock(NOW)
METER_DS = profile_of("meter-ds")


def chain_of(*authorities: Ca) -> tuple[c509.Certificate, ...]:
    return tuple(authority.certificate for authority in authorities)


def verify(
    world: World, chain: Sequence[c509.Certificate], authority: bytes | None = None, clock: Clock = CLOCK
) -> Authority:
    return verify_authority(chain, root=world.root.certificate, authority=authority, clock=clock)


def leaf_refusal(
    leaf: c509.Certificate, authority: Authority, profile: Profile = METER_DS, clock: Clock = CLOCK
) -> ProblemKind:
    with pytest.raises(RequestRejected) as caught:
        verify_leaf(leaf, authority, profile, clock)
    return caught.value.reason


def forge(certificate: c509.Certificate) -> c509.Certificate:
    """The same certificate with one bit of its signature flipped."""
    encoded = certificate.encoded
    return c509.decode_certificate(encoded[:-1] + bytes([encoded[-1] ^ 1]))
