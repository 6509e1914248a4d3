"""Where weights of networks come from: files on disk and hubs, read as tensors and never as code."""
