"""The stanzas of deb-control(5), as apt-cache and package indexes print them.

Pure and total. Runs on the target, so Python 3.6 and the standard library only.
"""

from typing import AbstractSet, Dict, Iterator


def stanzas(text: str, wanted: AbstractSet[str]) -> Iterator[Dict[str, str]]:
    """Give each stanza as its wanted fields by lower-case name; lines of one field are joined.

    What else it holds is passed over, however long it is; a stanza without any of them is none.
    """
    fields: Dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += " " + line.strip()
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not colon or name not in wanted:
                name = ""
            else:
                fields[name] = value.strip()
    if fields:
        yield fields
