"""IAM as AWS has it for calls that name their stream in another field than ministack looks at.

Stock ministack takes reads by iterator, and every call to DynamoDB Streams, for calls on `*`: a policy that names the stream,
as it should, would never allow them.
"""

import json

from ministack.core import iam_actions
from ministack.services import dynamodb_streams, kinesis

_stock_extract_resource_arn = iam_actions.extract_resource_arn


def _stream_of(service, body):
    try:
        asked = json.loads(body or b"{}")
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(asked, dict):
        return None
    iterator = asked.get("ShardIterator")
    if service == "kinesis" and isinstance(iterator, str):
        return (kinesis._shard_iterators.get(iterator) or {}).get("stream_arn")
    if service == "dynamodbstreams":
        read = dynamodb_streams._decode_iterator(iterator) if isinstance(iterator, str) else None
        return (read or {}).get("arn") or asked.get("StreamArn")
    return None


def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
    return _stream_of(service, body) or _stock_extract_resource_arn(
        service, method, path, headers, body, query_params, region, account_id
    )


def apply():
    iam_actions.extract_resource_arn = extract_resource_arn
