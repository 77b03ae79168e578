"""TPC-H with empty caches and an object store that is far away. `scripts/bench-nodes.sh` calls it; docs/benchmarks/README.md says how to
read it.

Top down: `__main__` (load, warm, cold) → `moved` (what a run fetched) → `summary` and `report`. `slow_proxy` makes the distance;
`cluster` beside this directory runs the nodes.
"""
