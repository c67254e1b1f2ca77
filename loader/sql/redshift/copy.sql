-- COPY goes on when its client dies; only inside a transaction is it undone then.
-- JSON 'auto' compares keys with the names of columns by case, so the rows' keys are in lower case.
-- 100000 is the most errors that can be allowed: https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-load.html
COPY rtr_iot_stage ({columns}, _load_id, _src_line)
FROM '{manifest}'
IAM_ROLE {iam_role} MANIFEST {region} FORMAT JSON 'auto' MAXERROR 100000 COMPUPDATE OFF STATUPDATE OFF {noload}
