SELECT COUNT(*) FROM rtr_iot_latest
