"""Labels of vehicle-to-vehicle traffic, in X.509 and C509 form."""

from protocol.labels import Domain, Tier
from protocol.profiles.declaration import DAY, Form, Profile
from protocol.profiles.naming import Naming

ITS_BOOT = Profile(
    label="its-boot",
    number=20,
    domain=Domain.ITS,
    tier=Tier.BOOTSTRAPPING,
    form=Form.X509,
    naming=Naming.EUI64,
    key_identifier_bytes=20,
)
ITS_ENROLL = Profile(
    label="its-enroll",
    number=21,
    domain=Domain.ITS,
    tier=Tier.PARTICIPATION,
    form=Form.NATIVE,
    naming=Naming.EUI64,
    opened_by=("its-boot",),
    rekeyed_by="its-enroll",
    confirmed_by="its-enroll",
    signs_messages=True,
    # Native, key usage alone: every byte is sent by every vehicle.
    validity=3 * 365 * DAY,
)
PROFILES = (ITS_BOOT, ITS_ENROLL)
