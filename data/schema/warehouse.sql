-- The warehouse: registered drivers by licence plate, and the ledger of the files loaded into them.
--
-- Runs unchanged on Amazon Redshift and on PostgreSQL, any number of times. That is why it holds no index (Redshift has
-- none), no DISTKEY or SORTKEY (PostgreSQL has none) and no ON CONFLICT.
-- VARCHAR(n) counts bytes on Redshift and characters on PostgreSQL; the widths below are meant as bytes, and whoever writes
-- rows checks bytes. A plate of seven characters such as 95B•140 has nine bytes.
-- All data columns are text: a zip code or a phone number taken as a number loses its zeros and signs.

-- One row per registered driver. The key is licenseplate (compared trimmed and upper-cased); neither server is asked to
-- enforce it, since Redshift does not, so the loader merges by it and readers take the row with the newest _loaded_at.
CREATE TABLE IF NOT EXISTS public.rtr_iot_driver_data (
    first_name   VARCHAR(256),
    last_name    VARCHAR(256),
    licenseplate VARCHAR(64)  NOT NULL, -- 1 to 64 bytes after trimming, as in the input event
    email        VARCHAR(320),          -- longest address the mail standards allow: 64 + 1 + 255
    address      VARCHAR(512),
    city         VARCHAR(256),
    state        VARCHAR(256),
    zipcode      VARCHAR(16),
    phonenumber  VARCHAR(64),           -- as the file has it; never texted
    myphone      VARCHAR(64),           -- the number that is texted
    _load_id     VARCHAR(64),           -- which load brought the row: hex of a SHA-256
    _loaded_at   TIMESTAMP              -- UTC
);

-- One row per load. It is written in the same transaction as the rows it counts, so a load whose commit got no answer can
-- be looked up here before anything is done twice.
CREATE TABLE IF NOT EXISTS public.rtr_iot_load_ledger (
    load_id      VARCHAR(64)   NOT NULL,
    file         VARCHAR(1024) NOT NULL, -- name of the loaded file, without its folder
    file_sha256  VARCHAR(64),
    rows         BIGINT        NOT NULL, -- data rows in the file, rejected ones included
    merged       BIGINT        NOT NULL, -- rows that stand in rtr_iot_driver_data through this load
    superseded   BIGINT        NOT NULL, -- rows whose plate came again later in the same file
    rejected     BIGINT        NOT NULL, -- rows put aside with line number and reason
    state        VARCHAR(16)   NOT NULL, -- committed
    started_at   TIMESTAMP,              -- UTC
    committed_at TIMESTAMP               -- UTC
);
