-- A foreign key takes a lock on the row that it refers to, for every row appended:
-- eleven rows that all writers share. The types are checked before, and stay.
alter table raw.status_transitions drop constraint status_transitions_entity_type_fkey;
alter table raw.entity_keys drop constraint entity_keys_entity_type_fkey;

create trigger append_only before update or delete or truncate on raw.entity_types
for each statement execute function raw.refuse_change();
