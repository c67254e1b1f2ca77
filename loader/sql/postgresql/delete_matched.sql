-- Stands for MERGE, together with insert_latest.sql, before PostgreSQL 15.
DELETE FROM public.rtr_iot_driver_data
USING rtr_iot_latest
WHERE rtr_iot_driver_data.licenseplate = rtr_iot_latest.licenseplate
