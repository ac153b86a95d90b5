"""What SQLite can promise at a power loss; ``storage.database`` says what each promise means.

Deliberately knows no SQL library: settings are read before one is loaded.
"""

#: Values of SQLite's ``synchronous`` that may be set.
SYNCHRONOUS = ("full", "normal", "off")
