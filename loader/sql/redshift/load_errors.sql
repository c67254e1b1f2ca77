-- What the last COPY of this session refused. STL_LOAD_ERRORS, which old clusters have instead, misses what was done by
-- concurrency-scaling clusters: https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_ERROR_DETAIL.html
SELECT CAST(BTRIM(file_name) AS VARCHAR), CAST(line_number AS BIGINT), CAST(BTRIM(column_name) AS VARCHAR),
    CAST(error_code AS BIGINT), CAST(BTRIM(error_message) AS VARCHAR)
FROM sys_load_error_detail
WHERE query_id = pg_last_copy_id()
ORDER BY file_name, line_number
