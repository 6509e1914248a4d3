"""From prompts or classes and seeds to images: the pipeline, latents and truncation, mixing, interpolation,
centroids."""
