-- Redshift wants both branches, a table as source, and no alias for the target.
MERGE INTO public.rtr_iot_driver_data
USING rtr_iot_latest
ON rtr_iot_driver_data.licenseplate = rtr_iot_latest.licenseplate
WHEN MATCHED THEN UPDATE SET {updates}, _load_id = rtr_iot_latest._load_id, _loaded_at = rtr_iot_latest._loaded_at
WHEN NOT MATCHED THEN INSERT ({columns}, _load_id, _loaded_at)
VALUES ({values}, rtr_iot_latest._load_id, rtr_iot_latest._loaded_at)
