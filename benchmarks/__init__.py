"""How fast Trivit is and how much memory it takes, beside the peers and beside what the machine can do.

`python -m benchmarks` measures, prints a table, writes it as JSON and draws it; `python3 -m nox -s bench` makes the
environments first. From the tables to the picture:

    rows.py        what a subject, a row and a side are
    subjects/      a table of rows each: who does what
    sides/         the work itself, a file for each side
    models.py      the models, and what each package calls them
    arithmetic.py  multiplications and memory that a model needs
    worker.py      the process that does one side's work; processes.py holds its other end
    measuring.py   rounds in which the sides take turns; budget.py says how many
    results.py     medians, ratios and the JSON
    tables.py      the JSON as text and as Markdown; picture.py draws it
    gpu.py         the same on a graphics card
"""
