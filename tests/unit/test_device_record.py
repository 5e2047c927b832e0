"""What the key store's files hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.devices.record import Current, LabelRecord, Pending, TrustRecord
from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.exchange.device_effects import Seen
from protocol.labels import Operation

EPOCHS = st.integers(0, 2**32)
CURRENTS = st.builds(Current, st.binary(), st.binary(), EPOCHS, st.integers(0, 2**63 - 1))
OPS = st.sampled_from([Operation.SEN, Operation.SREN])
PENDINGS = st.builds(Pending, st.binary(), OPS, EPOCHS, st.binary(), st.none() | st.binary())


@given(st.builds(LabelRecord, EPOCHS, st.none() | CURRENTS, st.none() | PENDINGS))
def test_a_label_comes_back_as_it_was(record: LabelRecord) -> None:
    assert LabelRecord.decode(record.encode()) == record


@given(
    st.builds(
        TrustRecord,
        st.binary(),
        st.binary(),
        EPOCHS,
        st.none() | st.binary(),
        st.builds(Seen, EPOCHS, EPOCHS),
        EPOCHS,
        EPOCHS,
        st.none() | st.text(),
        st.lists(st.text()).map(tuple),
    )
)
def test_an_owner_comes_back_as_they_were(record: TrustRecord) -> None:
    assert TrustRecord.decode(record.encode()) == record


def test_a_record_from_before_owners_changed_is_read() -> None:
    old = cbor.encode([1, b"voucher", bytes(32), 3, None, [1, 2], 4, 5])
    assert TrustRecord.decode(old) == TrustRecord(b"voucher", bytes(32), 3, None, Seen(1, 2), 4, 5)


@given(st.binary())
def test_any_other_bytes_are_malformed(data: bytes) -> None:
    for kind in (LabelRecord, TrustRecord):
        with pytest.raises(MalformedMessage):
            kind.decode(data)
