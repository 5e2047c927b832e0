"""Text that others wrote, for somebody's terminal."""


def printable(text: str) -> str:
    """Return `text` with control and format characters written as escapes, line ends excepted.

    Names in certificates and topics are their writers' choice: they must neither move the cursor of whoever
    looks at them, nor turn around what stands beside them.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )
