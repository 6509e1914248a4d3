"""Stages of one run: progressive growing of StyleGAN-XL, phases of StyleGAN-T.

Each goes on from the one before.
"""
