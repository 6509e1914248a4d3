"""What lets a run go on: its folder, checkpoints and full disks, and other runs or published states to start
from."""
