"""A seeded ChargeCars for demonstrations and tests: what its sources would deliver.

It stands on ingest, whose readers of workflow files and calendars it uses.
"""

from simulator.files import DemoFiles, write_demo

__all__ = ["DemoFiles", "write_demo"]
