"""Open CLIP models: architecture, weights, prompts and captions."""
