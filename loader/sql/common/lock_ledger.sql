-- Loads end one after the other. Without it, two loaders with the same file, or a commit that is still under way when its
-- loader asks again, could both find no ledger row.
LOCK TABLE public.rtr_iot_load_ledger
