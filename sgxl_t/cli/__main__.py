"""`python -m sgxl_t.cli`, which launchers of several processes can start."""

from sgxl_t.cli.main import main

if __name__ == "__main__":
    main()
