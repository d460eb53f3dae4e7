"""A sweep: every task of a data set with every seed, each run once, whoever does it and how often.

Runs lie at `OUT/<dataset>/<variant>-<digest>/seed<k>/<dataset>/<task>/<variant>`; the digest is of
the settings, so that a sweep with others goes elsewhere and the same one finds what it left. A
finished run is left as it is and an unfinished one is resumed, by `train(resume=True)` of
`adapt.training.train`; nothing else remembers what was done.

- `jobs`: which runs there are, and whether they can start at all
- `run`: one of them, and one after the other
- `cluster`: several at once, on Ray
- `results`, `table`, `report`: what came out, beside what papers print
"""
