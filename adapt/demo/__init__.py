"""A small drawn world: two data sets with a domain gap, and CLIP models pre-trained on drawings."""
