COPY rtr_iot_stage ({columns}, _load_id, _src_line) FROM STDIN
