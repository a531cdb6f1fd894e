"""Images that workers read: each sample is a function of (seed, epoch, index), for any worker and any start."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.random_erasing import RandomErasing

from t2tbuild.errors import FieldError, TrainingError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import Augmentation, FolderData
from t2tbuild.training.data.loader import StreamedData
from t2tbuild.training.data.transforms import fork_rng, train_transform
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.seeds import fold_in

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SQUARE = Grid(24, 24)
TRAIN = 14  # images


def make_folder(root: Path, split: str, each: int, *, size: tuple[int, int] = (40, 30)) -> None:
    """`each` images in either class, which differ in brightness: bright cats, dark dogs."""
    numbers = np.random.default_rng(each)
    for label, name in enumerate(("cat", "dog")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(each):
            pixels = numbers.integers(0, 100, (size[1], size[0], 3)) + (140, 10)[label]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.{('jpg', 'PNG')[number % 2]}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folder(tmp_path, "train", TRAIN // 2)
    make_folder(tmp_path, "val", 3)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not meant as an image")
    return tmp_path


def data(spec: FolderData, *, workers: int = 0, image: Grid = SQUARE, in_chans: int = 3) -> StreamedData:
    return StreamedData(spec, image=image, in_chans=in_chans, workers=workers, device=CPU)


def sampler(seed: int = 3, *, samples: int = TRAIN, batch_size: int = 4, rank: int = 0, ranks: int = 1) -> EpochSampler:
    return EpochSampler(num_samples=samples, batch_size=batch_size, seed=seed, rank=rank, world_size=ranks)


def batches_of(streamed: StreamedData, taken: EpochSampler, *, epoch: int = 0, step: int = 0, epochs: int = 2) -> list:
    return list(streamed.train_batches(taken, epoch=epoch, step=step, epochs=epochs))


def same(ours: list, theirs: list) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs) and bool(pairs)


STRONG = Augmentation(random_erasing=0.7)


def test_batches_do_not_depend_on_workers_and_start(root: Path) -> None:
    spec = FolderData(root=str(root), augment=STRONG)
    whole = batches_of(data(spec), sampler())
    assert len(whole) == 6
    assert whole[0][0].shape == (4, 3, 24, 24) and whole[0][0].dtype == torch.float32
    assert whole[0][1].dtype == torch.int64
    assert same(batches_of(data(spec, workers=2), sampler()), whole)
    assert same(batches_of(data(spec, workers=2), sampler(), step=2), whole[2:])
    assert same(batches_of(data(spec), sampler(), epoch=1, step=1), whole[4:])
    assert not same(batches_of(data(spec), sampler(seed=4)), whole)
    assert not torch.equal(whole[0][0], whole[3][0])


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_images_equal_those_of_timms_transform(root: Path, mode: str) -> None:
    streamed = data(FolderData(root=str(root), augment=STRONG.model_copy(update={"erasing_mode": mode})))
    whole = sampler(batch_size=TRAIN)
    images, labels = next(streamed.train_batches(whole, epoch=1, step=0, epochs=2))
    files = [root / "train" / name / f"{n:02}.{('jpg', 'PNG')[n % 2]}" for name in ("cat", "dog") for n in range(7)]
    transform = create_transform(
        24, is_training=True, auto_augment=STRONG.auto_augment, interpolation="random", re_prob=0.7, re_mode=mode
    )
    assert any(isinstance(part, RandomErasing) for part in transform.transforms)
    for image, label, index in zip(images, labels, whole.indices(1, 0), strict=True):
        with fork_rng(fold_in(3, 1, index)):
            assert torch.equal(image, transform(Image.open(files[index]).convert("RGB")))
        assert label == index // 7


def test_the_shares_of_ranks_make_up_the_batch_of_one(root: Path) -> None:
    streamed = data(FolderData(root=str(root)))
    whole = batches_of(streamed, sampler(), epochs=1)
    shares = [batches_of(streamed, sampler(rank=rank, ranks=2), epochs=1) for rank in range(2)]
    for one, first, second in zip(whole, *shares, strict=True):
        assert torch.equal(one[0], torch.cat([first[0], second[0]]))
        assert torch.equal(one[1], torch.cat([first[1], second[1]]))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_every_image_once_and_in_order(root: Path, workers: int) -> None:
    streamed = data(FolderData(root=str(root)), workers=workers)
    assert (streamed.num_classes, streamed.size("train"), streamed.size("validation")) == (2, TRAIN, 6)
    images, labels = map(
        torch.cat, zip(*streamed.eval_batches("test", rank=0, world_size=1, batch_size=4), strict=True)
    )
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    shares = [list(streamed.eval_batches("validation", rank=rank, world_size=2, batch_size=256)) for rank in range(2)]
    assert [len(share) for share in shares] == [1, 1]
    assert torch.equal(shares[1][0][0], images[1::2])
    transform = create_transform(24, interpolation="bicubic", crop_pct=0.9)
    assert torch.equal(images[0], transform(Image.open(root / "val" / "cat" / "00.jpg").convert("RGB")))


def test_without_augment_training_images_are_evaluation_images(root: Path) -> None:
    streamed = data(FolderData(root=str(root), augment=None, validation="train"))
    validation = torch.cat(
        [images for images, _ in streamed.eval_batches("validation", rank=0, world_size=1, batch_size=256)]
    )
    images, _ = next(streamed.train_batches(sampler(), epoch=5, step=1, epochs=6))
    assert torch.equal(images, validation[sampler().indices(5, 1)])


@pytest.mark.parametrize(
    "augment", ["rand-m9-mstd0.5-inc1", "original", "augmix-m5-w3", "3a", None], ids=lambda name: str(name)[:6]
)
def test_gray_rectangular_images_with_every_policy(root: Path, augment: str | None) -> None:
    spec = FolderData(root=str(root), augment=Augmentation(auto_augment=augment), validation="train")
    streamed = data(spec, image=Grid(16, 40), in_chans=1)
    assert streamed.mean == pytest.approx((0.449,)) and len(streamed.std) == 1
    for images, _ in batches_of(streamed, sampler(), epochs=6):
        assert images.shape == (4, 1, 16, 40) and images.isfinite().all()
    images, labels = next(streamed.eval_batches("validation", rank=0, world_size=1, batch_size=256))
    assert images.shape == (TRAIN, 1, 16, 40)
    assert images[labels == 0].mean() > 0.5 > -0.5 > images[labels == 1].mean()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("policy", ["rand-m10-n5-inc1", "rand-m10-n5", "v0", "originalr", "augmix-m10"])
def test_every_operation_at_its_highest_magnitude(policy: str, mode: str) -> None:
    augment = Augmentation(auto_augment=policy)
    mean = (0.5,) * len(mode)
    transform = train_transform(FolderData(root=".", augment=augment), SQUARE, mean)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3)).astype(np.uint8)).convert(mode)
    for seed in range(60):
        with fork_rng(fold_in(0, seed)):
            assert transform(image)[0].shape == (len(mode), 24, 24)


def test_the_generators_of_the_main_process_are_unchanged(root: Path) -> None:
    for workers in (0, 1):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # type: ignore[func-returns-value]
        expected = random.random(), np.random.rand(), torch.rand(1)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # type: ignore[func-returns-value]
        batches_of(data(FolderData(root=str(root)), workers=workers), sampler(), epochs=1)
        assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def corrupt_images(root: Path) -> list[Path]:
    """Images broken in six ways; the seventh is deleted after it was listed."""
    cats, dogs = root / "train" / "cat", root / "train" / "dog"
    (cats / "01.PNG").write_bytes(b"")
    (cats / "02.jpg").write_bytes((cats / "02.jpg").read_bytes()[:400])
    (cats / "03.PNG").write_text("<html>404</html>")
    png = bytearray((cats / "05.PNG").read_bytes())
    png[60:80] = bytes(20)
    (cats / "05.PNG").write_bytes(png)
    (dogs / "06.jpg").unlink()
    (dogs / "06.jpg").mkdir()
    (dogs / "06.jpg").rmdir()
    (dogs / "06.jpg").symlink_to(root / "nowhere.jpg")
    return [cats / "01.PNG", cats / "02.jpg", cats / "03.PNG", cats / "05.PNG", dogs / "06.jpg", dogs / "04.jpg"]


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_by_the_next_and_named_once(root: Path, workers: int) -> None:
    broken = corrupt_images(root)
    streamed = data(FolderData(root=str(root), augment=None, validation="train"), workers=workers)
    assert streamed.size("train") == TRAIN
    broken[-1].unlink()
    batches = batches_of(streamed, sampler(batch_size=7), epochs=3)
    assert sum(len(labels) for _, labels in batches) == 3 * TRAIN
    named = [line.split(" (")[0] for line in streamed.corrupt_images]
    assert Counter(named) == Counter(map(str, broken))
    assert all(line.endswith(")") and "Traceback" not in line and "\n" not in line for line in streamed.corrupt_images)
    clean = Image.open(root / "train" / "cat" / "04.jpg").convert("RGB")  # follows 02 and 03
    expected = create_transform(24, interpolation="bicubic", crop_pct=0.9)(clean)
    images, labels = (torch.cat(parts)[:TRAIN] for parts in zip(*batches, strict=True))
    taken = sampler(batch_size=7).indices(0, 0) + sampler(batch_size=7).indices(0, 1)
    for index in (2, 3, 4):
        assert torch.equal(images[taken.index(index)], expected)
    assert labels[taken.index(13)] == 0  # after the last comes the first


def test_too_many_corrupt_images_end_training(root: Path) -> None:
    corrupt_images(root)
    streamed = data(FolderData(root=str(root), skip_corrupt=2), workers=1)
    with pytest.raises(TrainingError, match=r"skip_corrupt is 2; the last: .*train/cat/.*Repair or remove") as message:
        batches_of(streamed, sampler())
    assert "Traceback" not in str(message.value)
    assert not active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_corrupt_image_ends_an_evaluation(root: Path, workers: int) -> None:
    (root / "val" / "dog" / "01.PNG").write_bytes(b"PNG?")
    with pytest.raises(TrainingError, match=r"validation split cannot be read: .*val/dog/01.PNG \(not an image\)"):
        list(
            data(FolderData(root=str(root)), workers=workers).eval_batches(
                "validation", rank=0, world_size=1, batch_size=256
            )
        )


def test_unusual_images_cause_no_warnings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cats = root / "train" / "cat"
    palette = Image.open(cats / "01.PNG").convert("P")
    palette.save(cats / "01.PNG", transparency=b"\0\1\2")
    Image.fromarray(np.zeros((30, 30), np.uint16)).save(cats / "03.PNG")
    Image.open(cats / "05.PNG").convert("CMYK").save(cats / "05.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,200 are a warning
    with warnings.catch_warnings(record=True) as caught:
        streamed = data(FolderData(root=str(root)))
        batches_of(streamed, sampler(samples=TRAIN + 1, batch_size=15), epochs=1)
    assert not caught and not streamed.corrupt_images
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # and now an error
    streamed = data(FolderData(root=str(root), skip_corrupt=0))
    with pytest.raises(TrainingError, match="decompression bomb"):
        batches_of(streamed, sampler())


def test_an_abandoned_iterator_leaves_no_worker(root: Path) -> None:
    streamed = data(FolderData(root=str(root)), workers=2)
    for begun in (
        lambda: streamed.train_batches(sampler(), epoch=0, step=0, epochs=100),
        lambda: streamed.eval_batches("validation", rank=0, world_size=1, batch_size=1),
    ):
        batches = begun()
        next(batches)
        assert len(active_children()) == 2
        del batches
        assert not active_children()


def test_workers_ignore_signals_to_the_process_group(root: Path) -> None:
    batches = data(FolderData(root=str(root)), workers=2).train_batches(sampler(), epoch=0, step=0, epochs=20)
    next(batches)
    for worker in active_children():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
    assert len(list(batches)) == 59


def test_a_death_while_workers_are_stopped_changes_nothing(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """torch reports it from its handler of SIGCHLD, which would raise in the middle of the shutdown."""
    batches = data(FolderData(root=str(root)), workers=3).train_batches(sampler(), epoch=0, step=0, epochs=100)
    next(batches)
    workers = active_children()
    os.kill(workers[1].pid, signal.SIGKILL)
    batches.close()
    assert not active_children()
    assert sorted(worker.exitcode for worker in workers) == [-signal.SIGKILL, 0, 0]
    assert capfd.readouterr().err == ""


@pytest.mark.nightly
def test_a_hanging_worker_is_killed(root: Path) -> None:
    batches = data(FolderData(root=str(root)), workers=2).train_batches(sampler(), epoch=0, step=0, epochs=100)
    next(batches)
    workers = active_children()
    os.kill(workers[0].pid, signal.SIGSTOP)
    batches.close()
    assert sorted(worker.exitcode for worker in workers) == [-signal.SIGKILL, 0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dead_worker_raises(root: Path) -> None:
    """torch leaves the temporary files open by which it checks the limit of open files."""
    before = {child.pid for child in active_children()}  # of other tests, whose loaders end later
    batches = data(FolderData(root=str(root)), workers=1).train_batches(sampler(), epoch=0, step=0, epochs=1000)
    next(batches)
    (worker,) = {child.pid for child in active_children()} - before
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(
        TrainingError, match=r"worker process that reads images died.*lower train\.data\.workers"
    ) as message:
        list(batches)
    assert "Traceback" not in str(message.value)


PARENT = """
import sys, time, torch
from multiprocessing import active_children
from t2tbuild.layout import Grid
from t2tbuild.spec.data import FolderData
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.training.data.loader import StreamedData
if __name__ == "__main__":
    torch.multiprocessing.set_start_method(sys.argv[2])
    spec = FolderData(root=sys.argv[1], augment=None)
    streamed = StreamedData(spec, image=Grid(24, 24), in_chans=3, workers=int(sys.argv[4]), device=torch.device("cpu"))
    batches = streamed.train_batches(EpochSampler(14, 4, 3), epoch=0, step=0, epochs=1000)
    print(next(batches)[0].sum().item())
    workers = {child.pid for child in active_children()}
    print(*workers, flush=True)
    if sys.argv[3] == "wait":
        time.sleep(60)
    kept = [batches]  # until Python ends
"""


def parent(root: Path, *arguments: str) -> subprocess.Popen[str]:
    script = root / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(root), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_workers_die_with_their_parent(root: Path) -> None:
    process = parent(root, "fork", "wait", "2")
    assert process.stdout is not None
    process.stdout.readline()
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2
    process.kill()
    process.communicate()
    until = time.monotonic() + 20
    while alive := [worker for worker in workers if is_running(worker)]:
        assert time.monotonic() < until, alive
        time.sleep(0.2)


def is_running(worker: int) -> bool:
    stat = Path(f"/proc/{worker}/stat")
    return stat.exists() and stat.read_text().split(") ")[1][0] != "Z"


def test_spawned_workers_read_the_same_and_python_ends_with_them(root: Path) -> None:
    printed, message = parent(root, "spawn", "leave", "1").communicate(timeout=180)
    assert not message
    first = next(data(FolderData(root=str(root), augment=None)).train_batches(sampler(), epoch=0, step=0, epochs=1))
    assert float(printed.splitlines()[0]) == first[0].sum().item()


def test_workers_import_only_what_they_need() -> None:
    code = "import sys, t2tbuild.training.data.loader as s; print([n for n in ('sklearn', 'optuna', 'datasets',"
    code += " 'webdataset', 'tensorflow', 'matplotlib', 'fvcore', 't2tbuild.training.loop') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_missing_and_invalid_data_raises(root: Path) -> None:
    spec = FolderData(root=str(root))
    with pytest.raises(FieldError, match="3 channels, or 1 as gray, and the model has in_chans 4"):
        data(spec, in_chans=4)
    with pytest.raises(FieldError, match="mean has 2 numbers"):
        data(spec.model_copy(update={"mean": (0.5, 0.5)}))
    with pytest.raises(FieldError, match="timm does not accept auto_augment rand-zz9"):
        data(spec.model_copy(update={"augment": Augmentation(auto_augment="rand-zz9")}))
    with pytest.raises(FieldError, match="expected"):
        data(FolderData(root=str(root / "nowhere")))
    (root / "train" / "eel").mkdir()
    with pytest.raises(FieldError, match=r"train/eel has no images \(images end in \.bmp") as message:
        data(spec).size("train")
    assert message.value.path == ("train", "data", "train")


def test_one_mean_applies_to_all_channels(root: Path) -> None:
    streamed = data(FolderData(root=str(root), mean=(0.5,), std=(0.25,)))
    assert (streamed.mean, streamed.std) == ((0.5,) * 3, (0.25,) * 3)
    images = next(islice(streamed.eval_batches("validation", rank=0, world_size=1, batch_size=256), 1))[0]
    assert -2 <= images.min() < images.max() <= 2
