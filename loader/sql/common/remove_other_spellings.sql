-- MERGE takes only equal columns in its condition on Redshift. So rows of the same plate in another spelling go first.
DELETE FROM public.rtr_iot_driver_data
USING rtr_iot_latest
WHERE UPPER(BTRIM(rtr_iot_driver_data.licenseplate, ' ' || CHR(9) || CHR(10) || CHR(13))) = rtr_iot_latest.plate_key
    AND rtr_iot_driver_data.licenseplate <> rtr_iot_latest.licenseplate
