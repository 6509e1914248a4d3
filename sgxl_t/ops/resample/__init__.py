"""FIR filters, and resampling by them."""
