"""CoAP ping: is an endpoint there? An empty confirmable message makes it answer with a reset.

    python -m constrained.ping coap://127.0.0.1:5683      exit status 0: it answered

Source:
    RFC 7252 §4.3.
"""

import secrets
import socket
import sys
import time
from typing import Final
from urllib.parse import urlsplit

EMPTY_CONFIRMABLE: Final = 0x40
RESET: Final = 0x70


def ping(host: str, port: int, seconds: float = 3.0) -> float | None:
    """Return the round trip's time in seconds, or None if nothing answered within `seconds`.

    Sent three times at most; another datagram than the reset of our message ID is not an answer.
    """
    message_id = secrets.token_bytes(2)
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as link:
        link.connect(address)
        started = time.monotonic()
        for attempt in range(1, 4):
            try:
                link.send(bytes([EMPTY_CONFIRMABLE, 0]) + message_id)
                while (left := started + seconds * attempt / 3 - time.monotonic()) > 0:
                    link.settimeout(left)
                    if link.recv(64) == bytes([RESET, 0]) + message_id:
                        return time.monotonic() - started
            except OSError:
                # Nobody listens (ICMP), or no answer yet: the next attempt is due at its own time.
                time.sleep(max(0.0, started + seconds * attempt / 3 - time.monotonic()))
    return None


def main() -> None:
    """Ping the endpoint of the one argument."""
    parts = urlsplit(sys.argv[1] if len(sys.argv) == 2 else "")
    if parts.scheme != "coap" or not parts.hostname:
        sys.exit("usage: python -m constrained.ping coap://host[:port]")
    if ping(parts.hostname, parts.port or 5683) is None:
        sys.exit(f"{sys.argv[1]}: no answer")


if __name__ == "__main__":
    main()
