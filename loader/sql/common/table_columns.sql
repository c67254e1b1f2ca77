-- The columns of one table of schema public, as the catalogue has them. A table that does not exist has none.
-- $1 name of the table
SELECT CAST(column_name AS VARCHAR), CAST(data_type AS VARCHAR), CAST(character_maximum_length AS BIGINT)
FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = $1
ORDER BY ordinal_position
