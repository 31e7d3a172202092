"""A file as bounded chunks of text rows, with an optional mapping of its columns.

Whether a value is right is decided in ingest.transition; what becomes of a chunk, in
ingest.delivery.
"""
