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


def printable_json(document: str) -> str:
    """Return the same JSON document with control and format characters written as its escapes.

    `json` escapes what JSON forbids in a string, and not what terminals act upon: U+007F to U+009F, and what
    turns text around.
    """
    if all(line.isprintable() for line in document.split("\n")):
        return document
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in document)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
