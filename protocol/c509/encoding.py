"""CBOR heads, for encodings that are put together from parts that were encoded before."""


def head(major: int, argument: int) -> bytes:
    """Return the shortest head of a data item; `major` is the major type shifted left by 5."""
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x10000:
        return bytes((major | 25, argument >> 8, argument & 0xFF))
    if argument < 0x100000000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


def head_size(argument: int) -> int:
    """Return the length of `head(…, argument)`."""
    if argument < 24:
        return 1
    return 2 if argument < 0x100 else 3 if argument < 0x10000 else 5


def byte_string(content: bytes) -> bytes:
    """Return a CBOR byte string."""
    return head(0x40, len(content)) + content


def array_head(length: int) -> bytes:
    """Return the head of a CBOR array."""
    return head(0x80, length)
