"""Where datasets come from: one file a source, each with `read(name, data_dir, split) -> Dataset`.

Every reader returns a validated dataset in compact storage. To add a source, write such a file and enter
its `read` in `valuelab.data.SOURCES`.
"""
