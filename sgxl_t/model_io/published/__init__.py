"""Pickles of the StyleGAN-XL and StyleGAN-T releases to model folders, without running anything that they
contain."""
