from dataclasses import replace

import pytest

from adapt import methods, published
from adapt.artifacts import store
from runtime.errors import FormatError

DATASETS = [path.stem for path in published.files()]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_has_as_many_values_as_columns_and_a_true_average(dataset):
    found = published.load(dataset)  # the reader checks each row
    assert found.dataset == dataset and len(found.rows) >= 10
    for row in found.rows:
        if row.by:
            values = dict(zip(found.columns[row.by], row.values, strict=True))
            expected = row.average if row.mean is None else row.mean
            assert sum(values.values()) / len(values) == pytest.approx(expected, abs=0.1 + 1e-9)
        if row.variant is not None:
            method, *added = row.variant.split("-")
            assert method in methods.METHODS
            settings = {"fixmatch": "fixmatch" in added, **dict.fromkeys(("partial", "rst"), False)}
            settings |= dict.fromkeys(set(added) - {"fixmatch"}, True)
            assert store.variant(method, settings) == row.variant  # as training names its folder


def test_there_are_figures_for_every_data_set_of_the_papers():
    assert DATASETS == [
        *("digits", "domainnet", "imageclef", "mini-domainnet", "office-home", "office31", "visda")
    ]
    assert published.load("demo-digits") is None
    assert published.load("../published/visda") is None


@pytest.mark.parametrize(
    ("dataset", "model", "protocol", "variant", "average", "dsp"),
    [
        ("office-home", "RN50-quickgelu", "standard", "cmkd", 79.3, 460.4),
        ("office-home", "ViT-B-16-quickgelu", "standard", "cmkd-rst", 87.7, 1.02),
        ("office-home", "ViT-B-16-quickgelu", "partial", "cmkd-fixmatch-partial", 90.8, None),
        ("office-home", "ViT-L-14-quickgelu", "standard", "unimos", 90.7, None),
        ("office31", "ViT-B-16", "standard", "cmkd-fixmatch", 94.4, 517.30),
        ("visda", "RN101-quickgelu", "standard", "unimos", 88.1, None),
        ("domainnet", "ViT-B-16-quickgelu", "cprs", "unimos", 76.0, None),
        ("mini-domainnet", "RN50-quickgelu", "standard", "unimos", 78.0, None),
    ],
)
def test_rows_are_found_by_backbone_and_protocol(dataset, model, protocol, variant, average, dsp):
    rows = [r for r in published.load(dataset).of(model, protocol) if r.variant == variant]
    assert [(row.average, row.dsp) for row in rows][0] == (average, dsp)


def test_no_row_is_compared_with_another_backbone():
    assert published.load("office-home").of("demo-rn32", "standard") == ()


def test_unimos_tasks_of_domainnet_give_its_printed_means_per_target():
    found = published.load("domainnet")
    tasks, targets = (
        next(row for row in found.rows if (row.variant, row.by) == ("unimos", by))
        for by in ("tasks", "targets")
    )
    by_task = dict(zip(found.columns["tasks"], tasks.values, strict=True))
    for target, printed in zip(found.columns["targets"], targets.values, strict=True):
        own = [value for task, value in by_task.items() if task[-1] == target]
        assert len(own) == 5
        assert sum(own) / 5 == pytest.approx(printed, abs=0.051)


def test_zero_shot_rows_do_not_depend_on_the_source_domain():
    for dataset in ("office-home", "office31", "mini-domainnet"):
        found = published.load(dataset)
        for row in found.rows:
            if row.variant == "zero_shot" and row.by == "tasks":
                pairs = zip(found.columns["tasks"], row.values, strict=True)
                by_target = {(task[-1], value) for task, value in pairs}
                assert len(by_target) == len({target for target, _ in by_target})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": 70.0}, r"the values of 'CMKD' on RN50 have the mean 79\.35, not 70\.0"),
        ({"values": ()}, "'CMKD' must have both 'by' and 'values', or neither"),
        ({"backbone": "VGG"}, "'CMKD' has an unknown backbone 'VGG'"),
        ({"average": 793.0}, "'CMKD' has a value that is not a percentage"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(change, message):
    row = next(r for r in published.load("office-home").rows if r.variant == "cmkd")
    with pytest.raises(ValueError, match=message):
        replace(row, **change)


def test_a_table_whose_rows_do_not_fit_its_columns_is_refused():
    found = published.load("office31")
    with pytest.raises(ValueError, match="'CMKD' has 6 values for its tasks"):
        replace(found, columns={"tasks": ("a-d",)})
    with pytest.raises(ValueError, match="'CLIP' has the unknown source 'cmkd'"):
        replace(found, sources={})
    with pytest.raises(ValueError, match="no row has the source 'own'"):
        replace(found, sources={**found.sources, "own": "nowhere"})


def test_a_damaged_file_is_one_clear_line(tmp_path):
    (tmp_path / "own.yaml").write_text("rows: [")
    with pytest.raises(FormatError, match="published figures of 'own' cannot be read") as caught:
        published.load("own", tmp_path)
    assert "\n" not in str(caught.value)
