"""The roadworthy command line and the benchmarks."""
