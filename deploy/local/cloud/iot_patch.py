"""IoT Core: the kinesis and firehose actions of topic rules. Its MQTT port is in mqtt_patch.py."""

import base64
import json
import re

from ministack.core.responses import new_uuid
from ministack.services import firehose, iot, kinesis

_stock_dispatch = iot._dispatch_rule_action


def _substitute(template, event):
    """Fills `${field}`, `${a.b}` and `${newuuid()}`; a field that is missing fails the action, as in AWS."""

    def value_of(match):
        expression = match.group(1).strip()
        if expression == "newuuid()":
            return new_uuid()
        value = event
        for part in expression.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            raise RuntimeError(f"substitution template ${{{expression}}} is undefined")
        return str(value)

    return re.sub(r"\$\{([^}]*)\}", value_of, template or "")


def _put_to_kinesis(action, event, body):
    partition_key = _substitute(action.get("partitionKey") or "${newuuid()}", event)
    if not kinesis._streams.get(action["streamName"]):
        raise RuntimeError(f"Stream {action['streamName']} not found")
    data = base64.b64encode(body).decode()
    return kinesis._put_record({"StreamName": action["streamName"], "PartitionKey": partition_key, "Data": data})


def _put_to_firehose(action, body):
    data = base64.b64encode(body + action.get("separator", "").encode()).decode()
    return firehose._put_record({"DeliveryStreamName": action["deliveryStreamName"], "Record": {"Data": data}})


async def dispatch_rule_action(account, region, rule, action, event):
    if "kinesis" not in action and "firehose" not in action:
        await _stock_dispatch(account, region, rule, action, event)
        return
    body = event.encode() if isinstance(event, str) else json.dumps(event).encode()
    with iot.request_scope(account, region):
        role = next(iter(action.values())).get("roleArn", "")
        if not iot._iot_role_usable(role):
            raise RuntimeError(f"{role} cannot be taken on")
        if "kinesis" in action:
            status, _headers, answer = _put_to_kinesis(action["kinesis"], event, body)
        else:
            status, _headers, answer = _put_to_firehose(action["firehose"], body)
    if status != 200:
        raise RuntimeError(answer)


def apply():
    iot._dispatch_rule_action = dispatch_rule_action
    iot._RULE_ACTION_RESOURCE_KEYS.update(kinesis=("streamName",), firehose=("deliveryStreamName",))
