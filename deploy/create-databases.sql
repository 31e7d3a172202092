-- What the database of compose makes beside its own: that of Dagster's records.
create database dagster;
