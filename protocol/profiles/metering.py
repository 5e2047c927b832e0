"""Labels of smart metering (IEC 62056 DLMS/COSEM): one key and one certificate per purpose."""

from protocol.labels import Domain, Tier
from protocol.profiles.declaration import DAY, Form, KeyUsage, Naming, Profile

METER_BOOT = Profile(
    label="meter-boot",
    number=1,
    domain=Domain.METERING,
    tier=Tier.BOOTSTRAPPING,
    form=Form.X509,
    naming=Naming.SYSTEM_TITLE,
    has_key_identifiers=True,
)
METER_DS = Profile(
    label="meter-ds",
    number=2,
    domain=Domain.METERING,
    tier=Tier.PARTICIPATION,
    form=Form.X509,
    naming=Naming.SYSTEM_TITLE,
    opened_by=("meter-boot",),
    rekeyed_by="meter-ds",
    confirmed_by="meter-ds",
    has_key_identifiers=True,
    validity=3 * 365 * DAY,
)
METER_KA = Profile(
    label="meter-ka",
    number=3,
    domain=Domain.METERING,
    tier=Tier.PARTICIPATION,
    form=Form.X509,
    naming=Naming.SYSTEM_TITLE,
    # A key-agreement key cannot sign: the device's own signature certificate speaks for it.
    opened_by=("meter-ds",),
    rekeyed_by="meter-ds",
    confirmed_by="meter-ds",
    key_usage=KeyUsage.KEY_AGREEMENT,
    has_key_identifiers=True,
    validity=3 * 365 * DAY,
)
METER_TLS = Profile(
    label="meter-tls",
    number=4,
    domain=Domain.METERING,
    tier=Tier.PARTICIPATION,
    form=Form.X509,
    naming=Naming.SYSTEM_TITLE,
    opened_by=("meter-ds",),
    rekeyed_by="meter-ds",
    confirmed_by="meter-ds",
    key_usage=KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_AGREEMENT,
    extended_key_usage=(1, 2),
    has_key_identifiers=True,
    validity=3 * 365 * DAY,
)
PROFILES = (METER_BOOT, METER_DS, METER_KA, METER_TLS)
