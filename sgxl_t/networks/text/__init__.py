"""Text encoders: CLIP, T5 and SigLIP, pretrained or trained locally."""
