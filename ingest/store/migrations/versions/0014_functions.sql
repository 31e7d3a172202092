alter table raw.schema_version add column functions jsonb;

comment on column raw.schema_version.functions is
'The SHA-256 of the text that each function of this schema was last made of, by name.';
