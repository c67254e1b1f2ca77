-- No unique key is enforced on Redshift: where a plate stands more than once, MERGE would leave as many rows.
DELETE FROM public.rtr_iot_driver_data
USING rtr_iot_latest
WHERE rtr_iot_driver_data.licenseplate = rtr_iot_latest.licenseplate
    AND rtr_iot_driver_data.licenseplate IN (
        SELECT licenseplate FROM public.rtr_iot_driver_data GROUP BY licenseplate HAVING COUNT(*) > 1
    )
