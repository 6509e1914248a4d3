"""Trains a class model and a text model on embedded pictures, measures both, writes demo/report.html."""

from sgxl_t.cli.demo_run.demo import demo

if __name__ == "__main__":
    demo()
