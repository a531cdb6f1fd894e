import torch

from t2tbuild.spec.data import DigitsData
from t2tbuild.train.data import batches, batches_in_epoch, load_data, mix

CPU = torch.device("cpu")


def test_splits_are_fixed_stratified_and_apart() -> None:
    data = load_data(DigitsData(image_size=8), in_chans=1, device=CPU)
    again = load_data(DigitsData(image_size=8), in_chans=1, device=CPU)
    splits = [data.train, data.validation, data.test]
    assert [len(split) for split in splits] == [1257, 270, 270]
    assert torch.equal(data.test.images, again.test.images)
    for split in splits:
        share = torch.bincount(split.labels) / len(split)
        assert (share - 0.1).abs().max() < 0.01
    seen = [{image.numpy().tobytes() for image in split.images} for split in splits]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_images_have_the_size_and_channels_asked_for() -> None:
    data = load_data(DigitsData(image_size=32), in_chans=3, device=CPU)
    assert data.train.images.shape == (1257, 3, 32, 32)
    assert abs(data.train.images.mean().item()) < 0.02


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    data = load_data(DigitsData(image_size=16), in_chans=1, device=CPU)

    def epoch(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([images for images, _ in batches(data, batch_size=64, seed=seed, epoch=epoch)])

    assert torch.equal(epoch(1, 2), epoch(1, 2))
    assert not torch.equal(epoch(1, 2), epoch(1, 3))
    assert not torch.equal(epoch(1, 2), epoch(2, 2))
    assert len(epoch(0, 0)) == batches_in_epoch(data, 64) * 64 == 1216


def test_augmentation_of_a_sample_does_not_depend_on_its_batch() -> None:
    data = load_data(DigitsData(image_size=16), in_chans=1, device=CPU)

    def first(batch_size: int) -> torch.Tensor:
        images, _ = next(batches(data, batch_size=batch_size, seed=0, epoch=0))
        return images[:8]

    torch.testing.assert_close(first(8), first(64))


def test_augmentation_moves_images_and_can_be_switched_off() -> None:
    plain = load_data(DigitsData(image_size=16, augment=False), in_chans=1, device=CPU)
    moved = load_data(DigitsData(image_size=16), in_chans=1, device=CPU)
    images, labels = next(batches(plain, batch_size=32, seed=0, epoch=0))
    others, same_labels = next(batches(moved, batch_size=32, seed=0, epoch=0))
    assert torch.equal(labels, same_labels)
    assert not torch.equal(images, others)
    known = {image.numpy().tobytes() for image in plain.train.images}
    assert all(image.numpy().tobytes() in known for image in images)


def test_mixed_seeds_differ() -> None:
    assert len({mix(seed, epoch) for seed in range(50) for epoch in range(50)}) == 2500
