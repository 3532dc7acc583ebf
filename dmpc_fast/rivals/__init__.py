"""Other models than the product's, trained here for experiments alone: they need torch and data."""
