"""The grammar of a reading on the in-stream, written a second time and from its description alone.

The audit judges every record by it, so that what the nodes say has something independent to agree with.
"""

import collections
import hashlib
import json
import re

MEMBERS = ("iottimestamp", "licensePlate", "longitude", "latitude", "city", "state", "speed")
MAX_RECORD_BYTES = 128 * 1024
MAX_DEPTH = 32
MAX_PLATE_BYTES = 64
MAX_TEXT_BYTES = 256
SPEED = re.compile(r"0*[0-9]{1,3}(\.0+)?")
# Unicode's White_Space. Python's strip() takes the separators U+001C to U+001F along, which are none.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
EVENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SURROGATE = re.compile("[\ud800-\udfff]")

Event = collections.namedtuple("Event", "event_id plate speed")


class Rejected(Exception):
    """A record that is no event."""


class Number(str):
    """A JSON number with its text as it stands in the record."""


def _members(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Rejected("a member's name comes twice")
    return members


def _no_constant(text):
    raise Rejected(f"{text} is no JSON")


def _depth(value):
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def parse_event(data):
    if len(data) > MAX_RECORD_BYTES:
        raise Rejected("too long")
    try:
        record = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_float=Number,
            parse_int=Number,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Rejected("no JSON") from error
    if not isinstance(record, dict) or _depth(record) > MAX_DEPTH:
        raise Rejected("no flat object")
    values = [record.get(member) for member in MEMBERS]
    if not all(isinstance(value, str) for value in values):
        raise Rejected("a member is missing or neither string nor number")
    if any(SURROGATE.search(value) for value in values):
        raise Rejected("half a character")
    if any(len(value.encode("utf-8")) > MAX_TEXT_BYTES for value in values):
        raise Rejected("a text is too long")
    plate, speed = record["licensePlate"].strip(BLANKS), record["speed"].strip(BLANKS)
    if not 1 <= len(plate.encode("utf-8")) <= MAX_PLATE_BYTES:
        raise Rejected("the plate is empty or too long")
    if not SPEED.fullmatch(speed):
        raise Rejected("the speed is no number of miles per hour")
    return Event(_event_id(record, values), plate, int(speed.split(".")[0]))


def _event_id(record, values):
    if "eventId" in record:
        given = record["eventId"]
        if not isinstance(given, str) or not EVENT_ID.fullmatch(given):
            raise Rejected("the eventId is none")
        return given
    digest = hashlib.sha256()
    for value in values:
        encoded = value.encode()
        digest.update(b"%d:%s" % (len(encoded), encoded))
    return digest.hexdigest()[:32]
