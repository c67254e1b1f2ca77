-- $1 load
SELECT rows, merged, superseded, rejected FROM public.rtr_iot_load_ledger WHERE load_id = $1
