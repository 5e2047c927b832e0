"""Addresses as the kernel writes them and as people do."""

import socket
import struct

import pytest

from constrained.sockets import address_of, bind, is_multicast, network_of, resolve, source_of


def pktinfo(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address) + struct.pack("I", 1)


@pytest.mark.parametrize("address", ["ff02::1", "ff05::fd", "::ffff:224.0.1.187", "::ffff:239.255.255.255"])
def test_groups_are_told(address: str) -> None:
    assert is_multicast(pktinfo(address))


@pytest.mark.parametrize("address", ["::1", "fe80::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:223.0.0.1"])
def test_single_hosts_are_no_groups(address: str) -> None:
    assert not is_multicast(pktinfo(address))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2", True),
    ],
)
def test_a_source_is_an_address_or_the_network_that_one_host_may_have(
    one: str, other: str, is_same: bool
) -> None:
    assert (network_of((one, 1, 0, 0)) == network_of((other, 2, 0, 0))) is is_same


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("::ffff:192.0.2.1", "coap:192.0.2.1:5683"),
        ("2001:db8::1", "coap:[2001:db8::1]:5683"),
        ("fe80::1%lo", "coap:[fe80::1%lo]:5683"),
    ],
)
def test_a_source_is_written_as_a_uri_would(address: str, source: str) -> None:
    assert source_of((address, 5683, 0, 0)) == source


async def test_names_and_literals_are_resolved_to_one_family() -> None:
    assert await resolve("127.0.0.1", 5683) == ("::ffff:127.0.0.1", 5683, 0, 0)
    assert await resolve("::1", 5683) == ("::1", 5683, 0, 0)
    assert await resolve("fe80::1%1", 5683) == ("fe80::1", 5683, 0, 1)


async def test_a_port_that_is_taken_is_not_shared() -> None:
    with await bind(("127.0.0.1", 0)) as bound:
        address = address_of(bound)
        assert address[0] == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            await bind(address)
