-- sla.sla_performance, as status-engine builds it; from here it is only read.
select * from sla.sla_performance
