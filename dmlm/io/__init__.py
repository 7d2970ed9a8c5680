"""Files: atomic writing, image reading, cache folders. Nothing here knows about labels, reports or models."""
