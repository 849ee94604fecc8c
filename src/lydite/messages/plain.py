"""How somebody else's words are shown to a person: as nothing but themselves.

A terminal obeys what it is sent, and whoever signs may write a reason. So whatever was not written
here goes through this before it is printed. Knows nothing of who wrote it.
"""


def plain(text: str) -> str:
    """Return text on one line in which all that is not printable is escaped.

    That is what moves a cursor, erases, hides, or turns the direction of reading (Unicode Cc, Cf,
    Cs, Co, Cn, Zl, Zp, and Zs but for the space).

    **Does not show** that letters are those that they look like.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
