"""Ways through the latent space: which keys they pass, along which curve, and moves of the input."""
