"""Alerts: what is due for which channel, in which words, sent once and recorded.

When a stay's alerts fall due is decided in dbt (sla_alerts).
"""
