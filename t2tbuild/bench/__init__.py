"""Latency, throughput and peak memory of models on this machine."""
