"""Where the costliest TPC-H queries spend their time, and how fast memory would let them be. `scripts/floors.sh` calls it;
docs/benchmarks/README.md says how to read it.

Top down: `__main__` → `bandwidth` (what the machine reads a second) → `plans` (what EXPLAIN ANALYZE says) → `report`.
"""
