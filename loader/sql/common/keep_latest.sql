-- Of several rows with one plate the highest line wins. The plate's key is made by the server here and in the statements that
-- compare it, so that its idea of upper case does not matter.
-- $1 load, $2 time of the load as text: the two kinds of server disagree about timestamps in binary.
INSERT INTO rtr_iot_latest ({columns}, plate_key, _load_id, _loaded_at)
SELECT {columns}, plate_key, _load_id, CAST($2 AS TIMESTAMP)
FROM (
    SELECT {columns}, plate_key, _load_id,
        ROW_NUMBER() OVER (PARTITION BY plate_key ORDER BY _src_line DESC) AS place
    FROM (
        SELECT {columns}, _load_id, _src_line,
            UPPER(BTRIM(licenseplate, ' ' || CHR(9) || CHR(10) || CHR(13))) AS plate_key
        FROM rtr_iot_stage
        WHERE _load_id = $1
    ) keyed
) ranked
WHERE place = 1
