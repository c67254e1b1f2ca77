-- The planner knows nothing of a table that was just filled.
ANALYZE rtr_iot_latest
