"""Load from raw sockets: pre-encoded frames, so that the server is the limit and not its client.

Run as `python -m bench.load coap|mqtt HOST PORT FILE [WINDOW]`; FILE, by `bench.fleet`, has one JSON line
per request, {"client_id", "label", "op", "body" (hex)}. Prints one JSON line:
{"seconds", "answered", "refused", "lost", "answer_bytes"}.
"""

import hashlib
import json
import selectors
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

WINDOW = 64
"""Requests in flight unless the fifth argument says otherwise; a fleet of independent devices, not one."""
RETRANSMIT = 3.0
"""Seconds after which a datagram is sent again."""
GIVE_UP = 30.0


@dataclass
class Outcome:
    seconds: float = 0.0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    answer_bytes: int = 0


@dataclass(frozen=True)
class Request:
    client_id: str
    label: str
    op: str
    body: bytes


def read(path: str) -> list[Request]:
    lines = (json.loads(line) for line in Path(path).read_text().splitlines())
    return [
        Request(item["client_id"], item["label"], item["op"], bytes.fromhex(item["body"])) for item in lines
    ]


# -- CoAP --


def coap_datagram(request: Request, number: int) -> bytes:
    """Return a confirmable POST /e/<label>/<op>, Content-Format 18; the 8-byte token is its number."""
    head = struct.pack("!BBH", 0x48, 0x02, number & 0xFFFF) + struct.pack("!Q", number)
    options, last = b"", 0
    for option, value in ((11, b"e"), (11, request.label.encode()), (11, request.op.encode()), (12, b"\x12")):
        options += bytes([(option - last) << 4 | min(len(value), 13)])
        options += bytes([len(value) - 13]) if len(value) >= 13 else b""
        options += value
        last = option
    return head + options + b"\xff" + request.body


def coap_payload(datagram: bytes) -> tuple[int, bytes]:
    """Return (code, payload) of a response."""
    code, position = datagram[1], 4 + (datagram[0] & 15)
    while position < len(datagram):
        if datagram[position] == 0xFF:
            return code, datagram[position + 1 :]
        delta, length = datagram[position] >> 4, datagram[position] & 15
        position += 1 + (delta == 13) + 2 * (delta == 14)
        if length == 13:
            length = datagram[position] + 13
            position += 1
        position += length
    return code, b""


def coap(host: str, port: int, requests: list[Request], window: int) -> Outcome:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    link.connect((host, port))
    link.settimeout(0.2)
    datagrams = [coap_datagram(request, number) for number, request in enumerate(requests)]
    waiting: dict[int, float] = {}
    outcome, following = Outcome(), 0
    started = time.perf_counter()
    while waiting or following < len(datagrams):
        now = time.perf_counter()
        if now - started > GIVE_UP + len(datagrams) / 50:
            break
        while len(waiting) < window and following < len(datagrams):
            link.send(datagrams[following])
            waiting[following] = now
            following += 1
        try:
            answer = link.recv(4096)
        except TimeoutError:
            answer = b""
        if len(answer) >= 12 and answer[1] and answer[0] & 15 == 8:
            number = struct.unpack("!Q", answer[4:12])[0]
            if waiting.pop(number, None) is not None:
                code, payload = coap_payload(answer)
                outcome.answered += code == 0x44
                outcome.refused += code != 0x44
                outcome.answer_bytes += len(payload)
            if answer[0] & 0x30 == 0:  # a separate response that wants its acknowledgement
                link.send(struct.pack("!BB", 0x60, 0) + answer[2:4])
        if not answer:
            for number, sent in waiting.items():
                if now - sent > RETRANSMIT:
                    link.send(datagrams[number])
                    waiting[number] = now
    outcome.seconds = time.perf_counter() - started
    outcome.lost = len(datagrams) - outcome.answered - outcome.refused
    return outcome


# -- MQTT 3.1.1 --


def _string(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


def _packet(head: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, digit = size >> 7, size & 127
        length += bytes([digit | (128 if size else 0)])
        if not size:
            return bytes([head]) + length + body


class Device:
    """One MQTT connection that sends one request."""

    def __init__(self, address: tuple[str, int], request: Request) -> None:
        self.request = request
        self.buffer = b""
        self.link = socket.create_connection(address, timeout=10)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        prefix = f"est/{request.client_id}/{request.label}/{request.op}"
        self.publish = _packet(0x32, _string(prefix) + struct.pack("!H", 2) + request.body)
        self.link.sendall(
            _packet(0x10, _string("MQTT") + b"\x04\x02" + struct.pack("!H", 600) + _string(request.client_id))
        )
        self.expect(0x20)
        filters = b"".join(
            _string(f"{prefix}/{end}") + b"\x01" for end in ("accepted", "rejected", "pending")
        )
        self.link.sendall(_packet(0x82, struct.pack("!H", 1) + filters))
        self.expect(0x90)
        self.link.setblocking(False)

    def expect(self, kind: int) -> None:
        while True:
            for head, _ in self.packets(self.link.recv(4096)):
                if head & 0xF0 == kind:
                    return

    def packets(self, data: bytes) -> list[tuple[int, bytes]]:
        self.buffer += data
        found = []
        while len(self.buffer) >= 2:
            size, shift, position = 0, 0, 1
            while position < len(self.buffer):
                digit = self.buffer[position]
                size |= (digit & 127) << shift
                shift += 7
                position += 1
                if not digit & 128:
                    break
            else:
                break
            if len(self.buffer) < position + size:
                break
            found.append((self.buffer[0], self.buffer[position : position + size]))
            self.buffer = self.buffer[position + size :]
        return found


def mqtt(host: str, port: int, requests: list[Request], window: int) -> Outcome:
    waiting: deque[Device] = deque()
    selector = selectors.DefaultSelector()
    for request in requests:  # connecting and subscribing is not what is measured
        device = Device((host, port), request)
        selector.register(device.link, selectors.EVENT_READ, device)
        waiting.append(device)
    outcome, in_flight = Outcome(), 0
    started = last = time.perf_counter()
    while waiting or in_flight:
        while waiting and in_flight < window:
            device = waiting.popleft()
            device.link.send(device.publish)
            in_flight += 1
        events = selector.select(0.5)
        now = time.perf_counter()
        if events:
            last = now
        elif now - last > GIVE_UP:
            break
        for key, _ in events:
            device = key.data
            data = device.link.recv(8192)
            if not data:
                selector.unregister(device.link)
                in_flight -= 1
                continue
            for head, body in device.packets(data):
                if head & 0xF0 != 0x30:
                    continue
                size = struct.unpack("!H", body[:2])[0]
                topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
                if head & 6:
                    device.link.send(_packet(0x40, rest[:2]))
                    rest = rest[2:]
                if topic.endswith("/pending"):
                    continue
                outcome.answered += topic.endswith("/accepted")
                outcome.refused += topic.endswith("/rejected")
                outcome.answer_bytes += len(rest)
                in_flight -= 1
    outcome.seconds = time.perf_counter() - started
    outcome.lost = len(requests) - outcome.answered - outcome.refused
    return outcome


def main() -> None:
    transport, host, port, path = sys.argv[1:5]
    requests = read(path)
    unique = len({hashlib.sha256(request.body).digest() for request in requests})
    if unique != len(requests):
        raise SystemExit("requests must differ")
    window = int(sys.argv[5]) if len(sys.argv) > 5 else WINDOW
    outcome = (coap if transport == "coap" else mqtt)(host, int(port), requests, window)
    print(json.dumps(outcome.__dict__))


if __name__ == "__main__":
    main()
