"""Benchmarks: manyhands beside what people would use instead, interleaved, as ratios.

make bench                     everything, three repeats: about half an hour
make bench-quick               two minutes
make bench-docs                the last run, as tables and a chart, into docs/performance.md
python -m bench.fleet          up to 1,000 simulated nodes against one broker
"""
