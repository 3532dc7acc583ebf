"""The paper's experiments, and ours, as commands: each arm a JSON file, made once."""
