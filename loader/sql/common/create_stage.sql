-- Rows as they lie in the bucket. {stage_columns} are the columns of the contract that the warehouse's table has, as wide as both
-- allow.
CREATE TEMP TABLE rtr_iot_stage (
    {stage_columns},
    _load_id VARCHAR(64),
    _src_line BIGINT
)
