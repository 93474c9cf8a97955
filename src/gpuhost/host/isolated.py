"""Starting a module of this package so that it imports nothing that others can write to."""

from typing import List

#: The program of `python -I -c`, which runs a module from a folder: "folder", "module" and the module's own arguments
#: follow. With -I neither the working folder nor a variable adds modules; the folder comes last, so that the
#: environment's own NumPy and OpenCV are found before any beside this package.
_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), {}, '__main__', True)"


def start(python: str, folder: str, module: str) -> List[str]:
    """Return the start of a command line that runs a module from a folder, and imports from no other place that others
    may write to.
    """
    return [python, "-I", "-B", "-c", _START, folder, module]
