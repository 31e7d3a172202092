-- One row per day. MetricFlow wants to know of one; no metric here reads it.
select distinct counted_on as day from sla.workload
