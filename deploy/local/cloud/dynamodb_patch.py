"""DynamoDB's time to live: taken from CloudFormation, swept when tests can wait for it, seen in the table's stream."""

import os
import threading
import time

from ministack.services import dynamodb, iot
from ministack.services.cloudformation import provisioners

TABLE = "AWS::DynamoDB::Table"


def _has_expired(item, attribute, now):
    try:
        return float(item[attribute]["N"]) <= now
    except (KeyError, ValueError, TypeError):
        return False


def _remove(account, region, table_name, table, partition, sort):
    """Removes as the service does: with a stream record that names DynamoDB itself."""
    with dynamodb._lock, iot.request_scope(account, region):
        old = dict(table["items"][partition][sort])
        dynamodb._remove_item(table, partition, sort)
        before = len(dynamodb._stream_records.get(table_name) or [])
        dynamodb._emit_stream_event(table_name, "REMOVE", old, None)
        for record in (dynamodb._stream_records.get(table_name) or [])[before:]:
            record["userIdentity"] = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}


def _sweep_once(now):
    for (account, region, name), setting in list(dynamodb._ttl_settings.all_items()):
        table = dynamodb._tables.get_scoped(account, region, name)
        attribute = setting.get("AttributeName")
        if not table or not attribute or setting.get("TimeToLiveStatus") != "ENABLED":
            continue
        for partition, items in list(table["items"].items()):
            for sort, item in list(items.items()):
                if _has_expired(item, attribute, now):
                    _remove(account, region, name, table, partition, sort)


def _sweep_for_ever(pause_seconds):
    while True:
        time.sleep(pause_seconds)
        _sweep_once(time.time())


def _with_time_to_live(create):
    """Stock CloudFormation drops TimeToLiveSpecification."""

    def create_table(logical_id, properties, stack):
        created = create(logical_id, properties, stack)
        wanted = properties.get("TimeToLiveSpecification")
        if wanted:
            enabled = str(wanted.get("Enabled")).lower() == "true"
            specification = {"AttributeName": wanted["AttributeName"], "Enabled": enabled}
            dynamodb._update_ttl({"TableName": created[0], "TimeToLiveSpecification": specification})
        return created

    return create_table


def apply():
    for registry in vars(provisioners).values():
        entry = registry.get(TABLE) if isinstance(registry, dict) else None
        if isinstance(entry, dict) and "create" in entry:
            entry["create"] = _with_time_to_live(entry["create"])
    pause_seconds = float(os.environ.get("LOCAL_TTL_SECONDS", "60"))
    threading.Thread(target=_sweep_for_ever, args=(pause_seconds,), daemon=True).start()
