"""Published StyleGAN-XL pickles to model folders, without running anything that they contain."""
