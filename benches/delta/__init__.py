"""What unsealed rows and updated rows cost the 22 queries. `scripts/bench-nodes.sh` calls it; docs/benchmarks/README.md says how to read it.

Top down: `__main__` (load, and the queries after each kind of change) → `changes` (which rows, in which transactions) → `report`.
"""
