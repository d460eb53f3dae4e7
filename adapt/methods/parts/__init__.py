"""What single methods are made of."""
