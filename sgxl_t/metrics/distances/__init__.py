"""What is computed from features, images and styles: one metric per file."""
