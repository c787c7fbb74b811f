"""Benchmarks: manyhands beside what people would use instead, interleaved, as ratios.

make bench          everything, three repeats
make bench-quick    two minutes
"""
