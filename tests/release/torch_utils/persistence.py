"""Objects that travel with the source of their module."""

SOURCE = "raise SystemExit('the source inside the file was run')\n" * 50


def _reconstruct_persistent_obj(meta):
    raise AssertionError("only written, never called")


def persistent_class(kind):
    """The class, pickled as a call with its name, its source and its attributes."""

    class Persistent(kind):
        def __reduce__(self):
            meta = {
                "type": "class",
                "version": 6,
                "module_src": SOURCE,
                "class_name": kind.__name__,
                "state": self.__dict__,
            }
            return (_reconstruct_persistent_obj, (meta,), None)

    Persistent.__name__ = kind.__name__
    return Persistent
