"""The numbers themselves, from features, images or styles: one metric per file."""
