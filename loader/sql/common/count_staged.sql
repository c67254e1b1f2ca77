-- Objects may hold rows of other loads, and rows twice.
-- $1 load
SELECT COUNT(DISTINCT _src_line) FROM rtr_iot_stage WHERE _load_id = $1
