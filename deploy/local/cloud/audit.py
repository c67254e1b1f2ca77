"""Counts what arrived where, from outside: it asks the local cloud's services, never a node.

usage: audit.py --endpoint URL [--plates FILE] [--limit MPH]

FILE holds the warehouse's plates, one a line, as hex of UTF-8. Each record of the in-stream is judged here once more by
the input grammar and the speed rule, so that the nodes' own counts have something independent to agree with.
Prints one JSON object; main() shows its shape.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import re
import sys
import urllib.request

import botocore.config
import botocore.exceptions
import botocore.session

from input_grammar import Rejected, parse_event

IN_STREAM = "rtr-iot-kinesis-stream"
OUT_STREAM = "rtr-iot-kinesis-out-stream"
ERROR_STREAM = "rtr-iot-kinesis-error-stream"
SPEEDING_TABLE = "rtr-iot-speeding"
ALERT_TABLE = "rtr-iot-alerts"
LETTER_TABLE = "rtr-iot-dead-letters"
ARCHIVE_PREFIX = "speeding/"

TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z?")


def stream_records(kinesis, stream):
    """Every record of every shard, closed ones included, from the oldest on."""
    for shard in kinesis.get_paginator("list_shards").paginate(StreamName=stream).search("Shards[]"):
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            for record in answer["Records"]:
                yield record["Data"]
            if not answer["Records"] and not answer.get("MillisBehindLatest"):
                break
            iterator = answer.get("NextShardIterator")


def table_items(dynamodb, table):
    yield from dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True).search("Items[]")


def text_of(item, attribute):
    return next(iter(item.get(attribute, {}).values()), None)


def audit_in_stream(kinesis, limit, letters):
    """Judges each record; an event that stands among the dead letters counts there and nowhere else."""
    records = under_limit = violations = rejected = 0
    below, above, lettered = {}, {}, set()
    for data in stream_records(kinesis, IN_STREAM):
        records += 1
        try:
            event = parse_event(data)
        except Rejected:
            rejected += 1
            continue
        if event.event_id in letters:
            lettered.add(event.event_id)
        elif event.speed > limit:
            violations += 1
            above[event.event_id] = event.plate
        else:
            under_limit += 1
            below[event.event_id] = event.plate
    counts = {
        "records": records,
        "under_limit_records": under_limit,
        "violation_records": violations,
        "rejected": rejected,
        "under_limit": len(below),
        "violations": len(above),
        "lettered": len(lettered),
        "events": len(below) + len(above) + len(lettered) + rejected,
    }
    return counts, above


def audit_letters(dynamodb):
    stages, enrich_events = {}, set()
    for item in table_items(dynamodb, LETTER_TABLE):
        stage = stages.setdefault(text_of(item, "stage") or "unknown", {"rows": 0, "tries": 0})
        stage["rows"] += 1
        stage["tries"] += int(text_of(item, "tries") or 1)
        payload = text_of(item, "payload")
        if text_of(item, "stage") not in ("enrich", "errors") or not isinstance(payload, bytes):
            continue
        try:
            enrich_events.add(parse_event(payload).event_id)
        except Rejected:
            pass
    return stages, enrich_events


def audit_out_stream(kinesis):
    records, events = 0, set()
    for data in stream_records(kinesis, OUT_STREAM):
        records += 1
        events.add(json.loads(data)["eventId"])
    return {"records": records, "events": len(events), "repeats": records - len(events)}


def audit_speeding(dynamodb):
    stamps = {}
    items = 0
    for item in table_items(dynamodb, SPEEDING_TABLE):
        items += 1
        stamps[text_of(item, "eventId")] = text_of(item, "iottimestamp")
    return {"items": items, "events": len(stamps)}, stamps


def audit_texts(endpoint):
    with urllib.request.urlopen(endpoint + "/_ministack/sns/sms-messages", timeout=60) as answer:
        by_number = json.load(answer)["sms_messages"]
    texts = [(number, text["Message"]) for number, sent in by_number.items() for text in sent]
    return {"messages": len(texts), "distinct": len(set(texts))}


def audit_archive(s3, account):
    bucket = f"rtr-iot-archive-{account}"
    lines, events = 0, set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=ARCHIVE_PREFIX):
        for entry in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            for line in body.splitlines():
                lines += 1
                events.add(json.loads(line)["eventId"])
    return {"lines": lines, "events": len(events)}


def seconds_of(stamp):
    """Seconds since the epoch of a UTC timestamp, or of a number of milliseconds; None for anything else."""
    match = TIMESTAMP.fullmatch(stamp or "")
    if match:
        *fields, fraction = match.groups()
        whole = datetime.datetime(*map(int, fields), tzinfo=datetime.timezone.utc).timestamp()
        return whole + float(f"0.{fraction or 0}")
    return int(stamp) / 1000 if (stamp or "").isdigit() else None


def audit_alerts(dynamodb, stamps):
    rows = sent = 0
    waits = []
    for item in table_items(dynamodb, ALERT_TABLE):
        rows += 1
        if text_of(item, "state") != "sent":
            continue
        sent += 1
        pressed, texted = seconds_of(stamps.get(text_of(item, "eventId"))), seconds_of(text_of(item, "sentAt"))
        if pressed is not None and texted is not None:
            waits.append(round((texted - pressed) * 1000, 1))
    return {"rows": rows, "sent": sent}, waits


def read_plates(path):
    with open(path, encoding="ascii") as file:
        return {bytes.fromhex(line.strip()).decode().strip().upper() for line in file if line.strip()}


def parse_arguments():
    parser = argparse.ArgumentParser(description="Counts what arrived where in the local cloud")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--plates", help="the warehouse's plates, one a line, as hex of UTF-8")
    parser.add_argument("--limit", type=int, default=75, help="speed above which an event is a violation")
    parser.add_argument("--account", default="000000000000")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    session = botocore.session.get_session()
    # botocore itself looks only at AWS_DEFAULT_REGION.
    region = os.environ.get("AWS_REGION", "us-east-1")
    config = botocore.config.Config(read_timeout=120, s3={"addressing_style": "path"})
    kinesis, dynamodb, s3 = (
        session.create_client(service, region_name=region, endpoint_url=arguments.endpoint, config=config)
        for service in ("kinesis", "dynamodb", "s3")
    )
    with concurrent.futures.ThreadPoolExecutor() as pool:
        out_stream = pool.submit(audit_out_stream, kinesis)
        texts = pool.submit(audit_texts, arguments.endpoint)
        archive = pool.submit(audit_archive, s3, arguments.account)
        letters, letter_events = audit_letters(dynamodb)
        in_stream, violating = audit_in_stream(kinesis, arguments.limit, letter_events)
        speeding, stamps = audit_speeding(dynamodb)
        alerts, waits = audit_alerts(dynamodb, stamps)
        error_records = sum(1 for _ in stream_records(kinesis, ERROR_STREAM))
        plates = read_plates(arguments.plates) if arguments.plates else set()
        report = {
            "in_stream": in_stream,
            "error_stream": {"records": error_records},
            "owner_unknown": sum(plate.upper() not in plates for plate in violating.values()),
            "letters": letters,
            "speeding": speeding,
            "out_stream": out_stream.result(),
            "texts": texts.result(),
            "archive": archive.result(),
            "alerts": alerts,
            "publish_to_text_ms": waits,
        }
    print(json.dumps(report))


if __name__ == "__main__":
    try:
        main()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError) as error:
        sys.exit(f"audit failed: {error}")
