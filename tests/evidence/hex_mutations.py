"""Changes to evidence that is one message with bytes in hexadecimal."""

import random

DIGITS = b"0123456789abcdef"


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return ``content`` with a few changes, most of which leave it a message."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        at, kind = dice.randrange(len(changed)), dice.randrange(12)
        if kind < 8:
            changed[at] = dice.choice(DIGITS)
        elif kind == 8:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 9:
            changed[at : at + 16] = dice.choice((b"0", b"f")) * len(changed[at : at + 16])
        elif kind == 10:
            del changed[at : at + dice.choice((1, 2, 8, 96))]
        else:
            start = dice.randrange(len(changed))
            changed[at:at] = changed[start : start + dice.choice((2, 8, 96))]
    return bytes(changed)
