"""TPC-H on several systems side by side, query by query in turn. `scripts/bench-tpch.sh` calls it; docs/benchmarks/README.md says how to read it.

Top down: `__main__` → `load` (the same CSV files into each system) → `measure` (rounds in turn, answers compared by `compare`) →
`metrics` (power and throughput) → `summary` (sums, ratios, bars) → `markdown` and `page`. `systems` is how each is talked to, `engines`
what runs in a process of its own.
"""
