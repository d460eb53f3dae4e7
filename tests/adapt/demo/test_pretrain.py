import json
import math

import numpy as np
import torch

from adapt.clip.demo_weights import load_state_dict
from adapt.demo.pretrain import Recipe, augment, draw_corpus, pretrain
from adapt.drawing.corpus import captioned


def test_the_corpus_is_eight_seeded_parts_in_order():
    images, captions = draw_corpus(seed=3, count=32)
    parts = [captioned(3000 + part, 4) for part in range(8)]
    expected = np.concatenate([pixels for pixels, _ in parts])
    assert torch.equal(images, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert captions == sum((words for _, words in parts), [])


def test_augmentation_keeps_shape_and_moves_the_batch_together():
    torch.manual_seed(0)
    images = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 10, 12] = 255
    batch = augment(images)
    assert batch.shape == (6, 3, 32, 32)
    spots = {divmod(int((batch[i, 0] - batch[i, 0].median()).abs().argmax()), 32) for i in range(6)}
    assert len(spots) == 1
    ((row, column),) = spots
    assert abs(row - 10) <= 2 and abs(column - 12) <= 2


def test_a_short_run_writes_weights_and_a_log_that_agree(tmp_path):
    torch.manual_seed(1)
    pretrain("demo-rn32", 0, Recipe(1, bf16=False, images=64, batch=16), tmp_path, "a command")
    first, *epochs, last = map(json.loads, (tmp_path / "demo-rn32.log").read_text().splitlines())
    assert first["recipe"]["images"] == 64 and first["command"] == "a command"
    assert [entry["epoch"] for entry in epochs] == [1]
    assert abs(epochs[0]["loss"] - math.log(16)) < 1  # an untrained model guesses within the batch
    assert last["bytes"] == (tmp_path / "demo-rn32.safetensors").stat().st_size
    state = load_state_dict("demo-rn32", tmp_path / "demo-rn32.safetensors")
    assert int(state["token_embedding.weight"].any(1).sum()) == last["token_rows"]
