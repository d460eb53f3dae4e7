"""Training settings: what they are, where their values come from, how files keep them."""
