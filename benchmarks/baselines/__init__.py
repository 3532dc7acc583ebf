"""What users would pick instead of the engine: rivals in benchmarks, never backends."""
