"""Which PostgreSQL, how its schema raw comes to be, who takes turns, and pinned cuts.

What goes into the tables belongs to the rooms above.
"""
