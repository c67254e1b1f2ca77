DROP TABLE rtr_iot_stage;
DROP TABLE rtr_iot_latest
