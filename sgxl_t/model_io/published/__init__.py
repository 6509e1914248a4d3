"""StyleGAN-XL's and StyleGAN-T's pickles to model folders, without running anything that they contain."""
