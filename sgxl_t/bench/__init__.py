"""Measurements of this machine: our backends of the operators and networks against plain ones.

The files of this folder import each other relatively: `worker.py` loads them under another name in a process
whose `sgxl_t` is another version, so that both versions run the same cases.
"""
