"""`make demo`: two models trained on the spot, sampled, judged, and shown on one page."""
