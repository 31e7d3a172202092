alter table raw.rejected_transitions add column byte_offset bigint;

comment on column raw.rejected_transitions.byte_offset is
'Of the first byte of the row in the file, decompressed; null where rows have no bytes of their own.';

create or replace view raw.open_rejects as
select rejected.*
from raw.rejected_transitions as rejected
where not exists (
    select from raw.resolved_rejects as resolved
    where resolved.rejected_id = rejected.rejected_id
);
