"""What is measured: operators, layers and generators, each beside a plain form of itself."""
