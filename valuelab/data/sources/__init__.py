"""The sources of datasets: one module per source, with a reader `read(name, data_dir, split) -> Dataset`.

Every reader returns a validated dataset in compact storage. To add a source, write such a module and enter
its `read` in `valuelab.data.SOURCES`.
"""
