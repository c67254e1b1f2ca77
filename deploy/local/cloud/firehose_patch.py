"""Firehose that buffers: one object per buffer, by size or age, keyed as AWS keys it; gzip where asked for.

Stock ministack writes one object per record and keeps every record in memory for ever.
"""

import asyncio
import contextvars
import gzip
import os
import sys
import threading
import time

from ministack.core.responses import new_uuid
from ministack.services import firehose, s3
from ministack.services.cloudformation import provisioners

DELIVERY_STREAM = "AWS::KinesisFirehose::DeliveryStream"

_scale = float(os.environ.get("LOCAL_FIREHOSE_SCALE", "1"))
_lock = threading.Lock()
_buffers = {}
_loop = None


class Buffer:
    """What one destination has taken in since its last object."""

    def __init__(self, stream, destination):
        self.stream = stream
        self.config = destination["config"]
        self.parts = []
        self.size = 0
        self.started = time.time()
        # The account and region of the request, which the later write to S3 needs.
        self.context = contextvars.copy_context()

    def add(self, raw):
        self.parts.append(raw)
        self.size += len(raw)

    def is_full(self):
        return self.size >= int(self._hints().get("SizeInMBs", 5)) << 20

    def is_due(self, now):
        return now - self.started >= float(self._hints().get("IntervalInSeconds", 300)) * _scale

    def _hints(self):
        return self.config.get("BufferingHints") or {}


def bind_loop(loop):
    global _loop
    _loop = loop


def deliver_records(stream, destination, records):
    full = None
    with _lock:
        buffer = _buffers.setdefault(id(destination), Buffer(stream, destination))
        for _record_id, raw in records:
            buffer.add(raw)
        if buffer.is_full():
            full = _buffers.pop(id(destination))
    if full:
        _flush(full)


def _flush(buffer):
    now = time.gmtime()
    name, version = buffer.stream["name"], buffer.stream.get("version", 1)
    stamp = firehose._java_time("yyyy-MM-dd-HH-mm-ss", now)
    extension = buffer.config.get("FileExtension") or ""
    body = b"".join(buffer.parts)
    if buffer.config.get("CompressionFormat") == "GZIP":
        body = gzip.compress(body)
        extension = extension or ".gz"
    prefix = firehose._evaluate_prefix(buffer.config.get("Prefix", ""), now)
    key = f"{prefix}{name}-{version}-{stamp}-{new_uuid()}{extension}"
    bucket = firehose._s3_bucket_from_arn(buffer.config.get("BucketARN", ""))
    # Requests are handled in worker threads, S3 on the loop.
    _loop.call_soon_threadsafe(lambda: _loop.create_task(_put(bucket, key, body)), context=buffer.context)


async def _put(bucket, key, body):
    headers = {
        "content-type": "application/octet-stream",
        "content-length": str(len(body)),
        "host": "s3.localhost",
    }
    answer = await s3.handle_request("PUT", f"/{bucket}/{key}", headers, body, {}, internal=True)
    if answer[0] >= 300:
        print("firehose delivery failed", answer[0], bucket, key, file=sys.stderr)


async def flush_due_buffers():
    while True:
        await asyncio.sleep(0.1)
        now = time.time()
        with _lock:
            due = [_buffers.pop(key) for key, buffer in list(_buffers.items()) if buffer.is_due(now)]
        for buffer in due:
            _flush(buffer)


def flush_all_buffers():
    with _lock:
        left = list(_buffers.values())
        _buffers.clear()
    for buffer in left:
        _flush(buffer)


def _without_history(put):
    """Keeps the put records from piling up in each destination."""

    def put_and_forget(data):
        answer = put(data)
        stream = firehose._streams.get(data.get("DeliveryStreamName", "")) or {}
        for destination in stream.get("destinations", []):
            destination["records"].clear()
        return answer

    return put_and_forget


def _with_numbers(create):
    """A template's parameters are texts; AWS makes numbers of them, stock ministack hands them out as they are."""

    def create_stream(logical_id, properties, stack):
        for kind in ("S3DestinationConfiguration", "ExtendedS3DestinationConfiguration"):
            hints = (properties.get(kind) or {}).get("BufferingHints") or {}
            hints.update({name: int(value) for name, value in hints.items()})
        return create(logical_id, properties, stack)

    return create_stream


def apply():
    for registry in vars(provisioners).values():
        entry = registry.get(DELIVERY_STREAM) if isinstance(registry, dict) else None
        if isinstance(entry, dict) and "create" in entry:
            entry["create"] = _with_numbers(entry["create"])
    firehose._deliver_records_to_s3 = deliver_records
    firehose._put_record = _without_history(firehose._put_record)
    firehose._put_record_batch = _without_history(firehose._put_record_batch)
