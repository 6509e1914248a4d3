"""Low-pass filters by design, and resampling and blurring of images by them."""
