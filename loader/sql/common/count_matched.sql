-- Rows that MERGE will update; the others are new.
SELECT COUNT(*)
FROM rtr_iot_latest
INNER JOIN public.rtr_iot_driver_data ON rtr_iot_driver_data.licenseplate = rtr_iot_latest.licenseplate
