alter table raw.stopped_files
add column file_name text,
add column codes jsonb;

comment on column raw.stopped_files.file_name is
'As it was delivered; null where it was broken off before this step.';
comment on column raw.stopped_files.codes is
'The refused rows, the most frequent code first: code, row_count, and of the first one line_number, row_number and value. Null where it was broken off before this step.';
