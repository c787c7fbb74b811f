"""Benchmarks: manyhands beside what people would use instead, interleaved, as ratios.

make bench                     everything, three repeats: about an hour
make bench-quick               two minutes
python -m bench.fleet          up to 1,000 simulated nodes against one broker
"""
