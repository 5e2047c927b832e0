"""Where a broker is."""

import ssl
from dataclasses import dataclass, field
from enum import IntEnum
from urllib.parse import urlsplit


class Version(IntEnum):
    """MQTT protocol level."""

    V3_1_1 = 4
    V5 = 5


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is, and how it knows us."""

    uri: str
    """mqtt://host[:port] or mqtts://host[:port]."""
    version: Version = Version.V3_1_1
    """3.1.1 is understood everywhere; the embedded broker understands nothing else."""
    ssl_context: ssl.SSLContext | None = None
    """Needed for mqtts; carries the client certificate, if any."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def resolve(self) -> tuple[str, int, ssl.SSLContext | None]:
        """Return host, port and TLS context.

        Raises:
            ValueError: `uri` is not of the two forms, or mqtts has no TLS context.
        """
        parts = urlsplit(self.uri)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/"):
            msg = f"{self.uri} is not mqtt://host:port or mqtts://host:port"
            raise ValueError(msg)
        if parts.scheme == "mqtt":
            return parts.hostname, parts.port or 1883, None
        if self.ssl_context is None:
            msg = f"{self.uri} needs a TLS context"
            raise ValueError(msg)
        return parts.hostname, parts.port or 8883, self.ssl_context
