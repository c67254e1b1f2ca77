-- $1 load, $2 file, $3 its SHA-256, $4 to $7 counts, $8 and $9 times as text
INSERT INTO public.rtr_iot_load_ledger
    (load_id, file, file_sha256, rows, merged, superseded, rejected, state, started_at, committed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'committed', CAST($8 AS TIMESTAMP), CAST($9 AS TIMESTAMP))
