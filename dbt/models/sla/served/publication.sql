{{ config(materialized="standing_view") }}
-- One row: the built cut, and what the clock shows (S15). In the files it is the cut
-- that they hold, and its instant.
select
    {{ built_cut() }} as cut,
    {{ as_of() }} as as_of
