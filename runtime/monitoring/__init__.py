"""When to trust a prediction: task choice, unknown frames, confidence, drift and harvests."""
