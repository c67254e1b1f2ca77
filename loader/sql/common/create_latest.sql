-- One row for each plate: MERGE fails on Redshift where two rows of its source have one key, and it wants a table, not a query.
CREATE TEMP TABLE rtr_iot_latest (
    {stage_columns},
    plate_key VARCHAR(256),
    _load_id VARCHAR(64),
    _loaded_at TIMESTAMP
)
