"""From photographs back to latents: a start, latents that are optimised, a generator tuned around them."""
