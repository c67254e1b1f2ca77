INSERT INTO public.rtr_iot_driver_data ({columns}, _load_id, _loaded_at)
SELECT {columns}, _load_id, _loaded_at FROM rtr_iot_latest
