"""Text encoders: CLIP, T5 and SigLIP by reference, or small ones trained on own captions."""
