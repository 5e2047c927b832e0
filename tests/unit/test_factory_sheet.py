"""CSV as people send it: what is read, what is told of wrong rows, and what refuses the whole file."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from agents.factory.sheet import MAX_RECORD, Column, Row, SheetError, Wrong, looks_like_key, read_sheet
from agents.keys import generate
from agents.keys.files import PrivateKey
from protocol.cose import Algorithm

COLUMNS = {"device": Column(64), "serial": Column(40), "note": Column(100, is_text=False)}


def read(text: str | bytes) -> list[Row | Wrong]:
    return list(read_sheet(text if isinstance(text, bytes) else text.encode(), COLUMNS))


def test_rows_are_told_with_the_line_they_begin_at() -> None:
    found = read('\ufeffdevice,note\r\nA1,"two\r\nlines, and ""quotes"""\r\n\r\nB2,\r\n')
    assert found == [
        Row(2, {"device": "A1", "note": 'two\nlines, and "quotes"'.replace("\n", "\r\n")}),
        Row(5, {"device": "B2", "note": ""}),
    ]


@pytest.mark.parametrize(
    ("row", "device", "reason"),
    [
        ("A,1,2", "A", "3 columns, the header has 2"),
        ("A", "A", "1 columns, the header has 2"),
        (f"{'A' * 65},1", "A" * 64, "device is longer than 64 characters"),
        ("Ä,1", "Ä", "device has other characters than printable ASCII"),
        ("A\x1b[2J,1", "A\x1b[2J", "device has other characters than printable ASCII"),
        ('"A"x,1', "", "not as RFC 4180 has it"),
        ("A,1\rB,2", "", "not as RFC 4180 has it"),
    ],
)
def test_a_wrong_row_is_told_and_the_next_one_is_read(row: str, device: str, reason: str) -> None:
    wrong, good = read(f"device,serial\n{row}\nC,3\n")
    assert isinstance(wrong, Wrong)
    assert (wrong.where, wrong.device) == ("line 2", device)
    assert wrong.reason.startswith(reason)
    assert good == Row(3, {"device": "C", "serial": "3"})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"device,password\n", "column 'password' is not known"),
        (b"device,device\n", "a column is there twice"),
        (b"device\nA\n\xff\n", "line 3: not UTF-8"),
        (b"device\nA\0\n", "null characters"),
        (b'device\nA\n"B\nC\n', "line 3: a quote that never ends"),
        (b'device\n"' + b"A\n" * MAX_RECORD, "line 2: a quote that never ends"),
        (b"device,note\nA,-----BEGIN EC PRIVATE KEY-----\n", "line 2: a private key"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(SheetError, match=reason):
        read(data)


def test_a_row_that_is_too_long_is_wrong() -> None:
    wrong, good = read(f"device,note\nA,{'x' * MAX_RECORD}\nB,\n")
    assert isinstance(wrong, Wrong)
    assert "longer than" in wrong.reason
    assert isinstance(good, Row)


def encodings(key: PrivateKey) -> list[bytes]:
    found = [key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())]
    found.append(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        found.append(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        number = key.private_numbers().private_value
        found.append(number.to_bytes((key.key_size + 7) // 8, "big"))
    return found


@pytest.mark.parametrize("algorithm", Algorithm)
def test_no_form_of_a_private_key_passes(algorithm: Algorithm) -> None:
    for encoded in encodings(generate(algorithm)):
        for text in (encoded.hex(), encoded.hex().upper(), base64.b64encode(encoded).decode()):
            assert looks_like_key(text)
            with pytest.raises(SheetError, match="line 2: a private key") as refused:
                read(f"device,note\nA,{text}\nB,\n")
            assert text not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["DE8AAS" + "0" * 58, "DETRLP" + "12345" * 6, "54524C0000000001", "TRL" + "1" * 15]
)
def test_a_name_is_not_taken_for_a_key(name: str) -> None:
    assert not looks_like_key(name)


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_wrong_rows_or_no_sheet(data: bytes) -> None:
    for content in (data, b"device,note\n" + data):
        try:
            rows = read(content)
        except SheetError:
            continue
        assert all(isinstance(row, (Row, Wrong)) for row in rows)
