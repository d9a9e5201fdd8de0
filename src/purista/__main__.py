"""``python -m purista`` is the ``purista`` command."""

from purista.cli import main

main()
