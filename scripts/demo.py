"""Trains a class model and a text model on embedded pictures, measures both, writes demo/report.html."""

from demo_models import demo

if __name__ == "__main__":
    demo()
