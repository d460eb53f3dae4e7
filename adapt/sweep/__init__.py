"""Run every task with every seed, each once, however often it is started.

Runs over a data set lie at `OUT/<dataset>/<variant>-<digest>/seed<k>/<dataset>/<task>/<variant>`;
the digest is of the settings, so that a sweep with others goes elsewhere and the same one finds its
runs. A finished run is left as it is and an unfinished one is resumed, by `train(resume=True)` of
`adapt.training.train`; nothing else remembers what was done.

- `jobs`: the runs of a sweep, checked before any starts
- `own`, `own_settings`, `own_report`: sweeps of several methods over the user's own images, at
  `OUT/<dataset>/own-<digest>/seed<k>/...`, beside their baselines
- `run`: one run, and one after the other
- `cluster`: several at once, on Ray
- `results`, `table`, `files`, `report`: figures of the runs, beside those of papers
"""
