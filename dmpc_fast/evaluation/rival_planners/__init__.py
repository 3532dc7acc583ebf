"""Other ways to search with the product's own models: for experiments, not for the product."""
