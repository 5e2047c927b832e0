"""The check character of an eMAID.

A character's number 0-35 (digits, then letters) is written as four digits q1 q2 r1 r2 of the bases
2, 2, 3, 3. The pairs (q1, q2) are row vectors over Z2 and (r1, r2) over Z3; the one at position i
(from 1) is multiplied by the i-th power of P, [[0 1] [1 1]] over Z2 and [[0 1] [1 2]] over Z3. The check
character, at position 15, makes both sums zero. Powers of these matrices up to those of neighbours differ by
invertible matrices, which is why a wrong character and two neighbours swapped are always noticed.

Source: eMI3, "Check Digit Calculation for Contract-IDs"; ISO 15118-2 Annex H. Verified against the examples
published there and in "Electric Vehicle ICT Interface Specifications" part 2, and against those of
independent implementations (tests/unit/test_ev_names.py).
"""

from collections.abc import Iterator
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BODY: Final = 14
"""Characters that the check character is computed from."""

Vector = tuple[int, int]
Matrix = tuple[Vector, Vector]

_P2: Final[Matrix] = ((0, 1), (1, 1))
_P3: Final[Matrix] = ((0, 1), (1, 2))


def _times(vector: Vector, matrix: Matrix, modulus: int) -> Vector:
    (a, b), ((c, d), (e, f)) = vector, matrix
    return (a * c + b * e) % modulus, (a * d + b * f) % modulus


def _powers(matrix: Matrix, modulus: int) -> Iterator[Matrix]:
    power: Matrix = matrix
    while True:
        yield power
        power = (_times(power[0], matrix, modulus), _times(power[1], matrix, modulus))


def _vectors(number: int) -> tuple[Vector, Vector]:
    """Return (q1, q2) and (r1, r2) of a character's number."""
    upper, lower = divmod(number, 9)
    return (upper // 2, upper % 2), (lower // 3, lower % 3)


def _contributions(number: int, binary: Matrix, ternary: Matrix) -> tuple[int, int, int, int]:
    q, r = _vectors(number)
    return *_times(q, binary, 2), *_times(r, ternary, 3)


_MODULI: Final = (2, 2, 3, 3)
_WEIGHTS: Final = tuple(
    tuple(_contributions(number, binary, ternary) for number in range(len(ALPHABET)))
    for _, binary, ternary in zip(range(BODY + 1), _powers(_P2, 2), _powers(_P3, 3), strict=False)
)
"""What each character adds to the four sums at each of the 15 positions."""
_CHECK: Final = {
    tuple(-added % modulus for added, modulus in zip(weight, _MODULI, strict=True)): ALPHABET[number]
    for number, weight in enumerate(_WEIGHTS[BODY])
}
"""The sums of the first 14 characters -> the 15th that makes them zero."""


def check_character(body: str) -> str:
    """Return the check character of 14 upper-case letters and digits.

    Raises:
        ValueError: Another length, or another character.
    """
    if len(body) != BODY:
        msg = f"{len(body)} characters, {BODY} are needed"
        raise ValueError(msg)
    added = zip(
        *(weight[ALPHABET.index(character)] for weight, character in zip(_WEIGHTS, body, strict=False)),
        strict=True,
    )
    return _CHECK[tuple(sum(column) % modulus for column, modulus in zip(added, _MODULI, strict=True))]
