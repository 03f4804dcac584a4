"""Programs that run valuelab from the command line: `python -m experiments.NAME`.

Programs that have moved also start under their old names: Python finds those in the folder `renamed`.
"""

import pathlib

__path__.append(str(pathlib.Path(__file__).parent / "renamed"))
