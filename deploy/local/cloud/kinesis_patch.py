"""Kinesis as AWS has it: a closed shard stays readable to its end, then names its children.

Stock ministack deletes the parent with its records on a split or merge, copies every record list on each call, makes
short sequence numbers and knows no limits per shard.
"""

import asyncio
import bisect
import json
import os
import time

from ministack.core.responses import error_response_json, json_response
from ministack.services import kinesis

RECORDS_PER_SECOND = 1000
BYTES_PER_SECOND = 1 << 20
READS_PER_SECOND = 5
LAST_HASH_KEY = (1 << 128) - 1

_stock_next_sequence_number = kinesis._next_sequence_number
_stock_expire_iterators = kinesis._expire_iterators
_stock_shard_out = kinesis._shard_out
_stock_list_shards = kinesis._list_shards
_stock_get_records = kinesis._get_records
_stock_put_record = kinesis._put_record
_stock_put_records = kinesis._put_records
_stock_subscribe = kinesis._subscribe_to_shard

_iterators_expired_at = 0.0
_reads = {}
_writes = {}


def _arrival(record):
    return record["ApproximateArrivalTimestamp"]


def expire_records(stream):
    """Cuts only when the oldest record has expired; the stock version copies all lists on every call."""
    cut = time.time() - stream["RetentionPeriodHours"] * 3600
    for shard in stream["shards"].values():
        records = shard["records"]
        if records and _arrival(records[0]) < cut:
            shard["records"] = records[bisect.bisect_left(records, cut, key=_arrival):]


def expire_iterators():
    global _iterators_expired_at
    now = time.time()
    if now - _iterators_expired_at > 5:
        _iterators_expired_at = now
        _stock_expire_iterators()


def next_sequence_number():
    """56 digits as in AWS, which no u128 holds, and still rising over a restart."""
    return "496" + _stock_next_sequence_number().zfill(53)


# ---- Splitting and merging -------------------------------------------------------------------------------------------


def _is_open(shard):
    return not shard.get("ending_sequence_number")


def _open_shards(stream):
    return {name: shard for name, shard in stream["shards"].items() if _is_open(shard)}


def _low(shard):
    return int(shard["starting_hash_key"])


def _high(shard):
    return int(shard["ending_hash_key"])


def route_to_shard(key_hash, stream):
    for name, shard in stream["shards"].items():
        if _is_open(shard) and _low(shard) <= key_hash <= _high(shard):
            return name
    return None


def _add_child(stream, low, high, parent, adjacent_parent=None):
    name = f"shardId-{kinesis._max_shard_index(stream) + 1:012d}"
    stream["shards"][name] = {
        "records": [],
        "starting_hash_key": str(low),
        "ending_hash_key": str(high),
        "starting_sequence_number": kinesis._next_sequence_number(),
        "parent_shard_id": parent,
        "adjacent_parent_shard_id": adjacent_parent,
    }


def _close(stream, *names):
    for name in names:
        stream["shards"][name].update(ending_sequence_number=kinesis._next_sequence_number(), closed_at=time.time())


def _refusal(stream, shard):
    """The answer for a shard that cannot be resharded, or None."""
    if shard not in stream["shards"]:
        return error_response_json("ResourceNotFoundException", f"Shard {shard} not found", 400)
    if not _is_open(stream["shards"][shard]):
        return error_response_json("InvalidArgumentException", f"Shard {shard} is closed", 400)
    return None


def _no_stream(name):
    return error_response_json("ResourceNotFoundException", f"Stream {name} not found", 400)


def split_shard(data):
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _no_stream(name)
    parent = data.get("ShardToSplit")
    refusal = _refusal(stream, parent)
    if refusal:
        return refusal
    shard = stream["shards"][parent]
    low, high, middle = _low(shard), _high(shard), int(data["NewStartingHashKey"])
    if not low < middle <= high:
        return error_response_json("InvalidArgumentException", "NewStartingHashKey outside the shard's range", 400)
    _close(stream, parent)
    _add_child(stream, low, middle - 1, parent)
    _add_child(stream, middle, high, parent)
    return json_response({})


def merge_shards(data):
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _no_stream(name)
    first, second = data.get("ShardToMerge"), data.get("AdjacentShardToMerge")
    refusal = _refusal(stream, first) or _refusal(stream, second)
    if refusal:
        return refusal
    lower, upper = sorted((stream["shards"][first], stream["shards"][second]), key=_low)
    if _high(lower) + 1 != _low(upper):
        return error_response_json("InvalidArgumentException", f"Shards {first} and {second} are not adjacent", 400)
    _close(stream, first, second)
    _add_child(stream, _low(lower), _high(upper), first, second)
    return json_response({})


def update_shard_count(data):
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _no_stream(name)
    target, current = int(data.get("TargetShardCount") or 0), len(_open_shards(stream))
    if not 1 <= target <= 2 * current or 2 * target < current:
        return error_response_json("LimitExceededException", "UpdateShardCount goes from half to double", 400)
    while len(_open_shards(stream)) < target:
        widest, shard = max(_open_shards(stream).items(), key=lambda item: _high(item[1]) - _low(item[1]))
        middle = (_low(shard) + _high(shard)) // 2 + 1
        split_shard({**data, "ShardToSplit": widest, "NewStartingHashKey": str(middle)})
    while len(_open_shards(stream)) > target:
        ordered = sorted(_open_shards(stream).items(), key=lambda item: _low(item[1]))
        pairs = list(zip(ordered, ordered[1:]))
        (first, _), (second, _) = min(pairs, key=lambda pair: _high(pair[1][1]) - _low(pair[0][1]))
        merge_shards({**data, "ShardToMerge": first, "AdjacentShardToMerge": second})
    return json_response(
        {
            "StreamName": stream["StreamName"],
            "CurrentShardCount": current,
            "TargetShardCount": target,
            "StreamARN": stream["StreamARN"],
        }
    )


# ---- Lineage as seen by readers --------------------------------------------------------------------------------------


def _parents(shard):
    return [name for name in (shard.get("parent_shard_id"), shard.get("adjacent_parent_shard_id")) if name]


def _children(stream, parent):
    return [
        {
            "ShardId": name,
            "ParentShards": _parents(shard),
            "HashKeyRange": {
                "StartingHashKey": shard["starting_hash_key"],
                "EndingHashKey": shard["ending_hash_key"],
            },
        }
        for name, shard in sorted(stream["shards"].items())
        if parent in _parents(shard)
    ]


def shard_out(name, shard):
    described = _stock_shard_out(name, shard)
    if not _is_open(shard):
        described["SequenceNumberRange"]["EndingSequenceNumber"] = shard["ending_sequence_number"]
    return described


def list_shards(data):
    status, headers, body = _stock_list_shards(data)
    shard_filter = data.get("ShardFilter") or {}
    keep = {
        "AT_LATEST": lambda shard: "EndingSequenceNumber" not in shard["SequenceNumberRange"],
        "AFTER_SHARD_ID": lambda shard: shard["ShardId"] > shard_filter["ShardId"],
        "AT_TRIM_HORIZON": lambda shard: "ParentShardId" not in shard,
    }.get(shard_filter.get("Type"))
    if status != 200 or keep is None:
        return status, headers, body
    answer = json.loads(body)
    answer["Shards"] = [shard for shard in answer["Shards"] if keep(shard)]
    return json_response(answer)


def get_records(data):
    iterator = kinesis._shard_iterators.get(data.get("ShardIterator"))
    status, headers, body = _stock_get_records(data)
    if status != 200 or not iterator:
        return status, headers, body
    stream = kinesis._streams.get(iterator["stream"])
    shard = stream["shards"][iterator["shard_id"]]
    if _is_open(shard):
        return status, headers, body
    answer = json.loads(body)
    following = kinesis._shard_iterators.get(answer["NextShardIterator"])
    if following["position"] < len(shard["records"]):
        return status, headers, body
    del kinesis._shard_iterators[answer.pop("NextShardIterator")]
    answer["ChildShards"] = _children(stream, iterator["shard_id"])
    return json_response(answer)


def subscribe_to_shard(data, is_cbor):
    """Ends a subscription once its closed shard is drained; the stock loop waits for the shard to vanish."""
    status, headers, body = _stock_subscribe(data, is_cbor)
    if not isinstance(body, kinesis.StreamingResponse):
        return status, headers, body
    consumer = kinesis._consumer_from_arn(data["ConsumerARN"])
    stream = kinesis._resolve_stream_by_arn(consumer["StreamARN"])
    name, started = data["ShardId"], time.time()
    event_headers = {
        ":message-type": "event",
        ":event-type": "SubscribeToShardEvent",
        ":content-type": "application/json",
    }

    async def run(send, receive):
        task = asyncio.create_task(body.runner(send, receive))
        while not task.done():
            await asyncio.wait({task}, timeout=0.25)
            shard = stream["shards"].get(name)
            closed_at = shard.get("closed_at") if shard else None
            if not closed_at or time.time() - max(started, closed_at) <= 1:
                continue
            last = {
                "Records": [],
                "ContinuationSequenceNumber": shard["ending_sequence_number"],
                "MillisBehindLatest": 0,
                "ChildShards": _children(stream, name),
            }
            message = kinesis._eventstream_message(event_headers, json.dumps(last).encode())
            await send({"type": "http.response.body", "more_body": True, "body": message})
            task.cancel()
            await asyncio.wait({task})

    return status, headers, kinesis.StreamingResponse(run)


# ---- Limits per shard ------------------------------------------------------------------------------------------------


def limited_get_records(data):
    iterator = kinesis._shard_iterators.get(data.get("ShardIterator"))
    if iterator:
        now = time.time()
        recent = [t for t in _reads.get((iterator["stream_arn"], iterator["shard_id"]), []) if now - t < 1]
        _reads[(iterator["stream_arn"], iterator["shard_id"])] = recent
        if len(recent) >= READS_PER_SECOND:
            reason = f"Rate exceeded for shard {iterator['shard_id']}"
            return error_response_json("ProvisionedThroughputExceededException", reason, 400)
        recent.append(now)
    return get_records(data)


def _admit(stream_name, shard, size):
    second = int(time.time())
    used = _writes.get((stream_name, shard))
    if not used or used["second"] != second:
        used = _writes[(stream_name, shard)] = {"second": second, "records": 0, "bytes": 0}
    if used["records"] >= RECORDS_PER_SECOND or used["bytes"] + size > BYTES_PER_SECOND:
        return False
    used["records"] += 1
    used["bytes"] += size
    return True


def _hash_key_error(records):
    """A hash key that no shard has; stock ministack takes the record into the first shard."""
    for record in records:
        explicit = record.get("ExplicitHashKey")
        if explicit and int(explicit) > LAST_HASH_KEY:
            return error_response_json(
                "InvalidArgumentException",
                f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {explicit}",
                400,
            )
    return None


def put_record(data):
    return _hash_key_error([data]) or _stock_put_record(data)


def put_records(data):
    return _hash_key_error(data.get("Records", [])) or _stock_put_records(data)


def limited_put_records(data):
    """Throttles single records, as PutRecords reports it, not the call."""
    refused = _hash_key_error(data.get("Records", []))
    if refused:
        return refused
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _stock_put_records(data)
    records = data.get("Records", [])
    admitted, results = [], [None] * len(records)
    for index, record in enumerate(records):
        explicit = record.get("ExplicitHashKey")
        key_hash = int(explicit) if explicit else kinesis._partition_key_to_hash(record.get("PartitionKey", ""))
        shard = route_to_shard(key_hash, stream)
        if _admit(name, shard, len(record.get("Data") or "") * 3 // 4):
            admitted.append(index)
        else:
            results[index] = {
                "ErrorCode": "ProvisionedThroughputExceededException",
                "ErrorMessage": f"Rate exceeded for shard {shard} in stream {name}",
            }
    if len(admitted) == len(records):
        return _stock_put_records(data)
    if admitted:
        status, headers, body = _stock_put_records({**data, "Records": [records[index] for index in admitted]})
        if status != 200:
            return status, headers, body
        for index, result in zip(admitted, json.loads(body)["Records"]):
            results[index] = result
    failed = len(records) - len(admitted)
    return json_response({"FailedRecordCount": failed, "Records": results, "EncryptionType": "NONE"})


def apply(limits):
    kinesis.ITERATOR_EXPIRY_SECONDS = float(os.environ.get("LOCAL_ITERATOR_SECONDS", "300"))
    kinesis._expire_records = expire_records
    kinesis._expire_iterators = expire_iterators
    kinesis._next_sequence_number = next_sequence_number
    kinesis._route_to_shard = route_to_shard
    kinesis._split_shard = split_shard
    kinesis._merge_shards = merge_shards
    kinesis._update_shard_count = update_shard_count
    kinesis._shard_out = shard_out
    kinesis._list_shards = list_shards
    kinesis._get_records = limited_get_records if limits else get_records
    kinesis._subscribe_to_shard = subscribe_to_shard
    kinesis._put_record = put_record
    kinesis._put_records = limited_put_records if limits else put_records
