"""What SQLite can promise at a power loss; ``storage.database`` says what each promise means."""

#: Values of SQLite's ``synchronous`` that may be set.
SYNCHRONOUS = ("full", "normal", "off")
