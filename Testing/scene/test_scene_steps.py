"""Loading a result in steps: the scene is touched in the last one, and giving up leaves it as it was."""

from loaded_case import load_volume, loaded_case
from mrml_headless import HeadlessScene
from written_case import make_case

from SegWithUSlicerLib.scene.load_case import load_case_steps, work_of_case
from SegWithUSlicerLib.scene.segmentation import content_hash, was_touched
from SegWithUSlicerLib.scene.steps import SteppedTask, finish


def test_steps_touch_the_scene_in_the_last_one_only(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, regions=True)
    volume = load_volume(headless.scene, disk.image, "x")
    before = headless.scene.GetNumberOfNodes()
    task = SteppedTask(load_case_steps(disk.folder, volume), work_of_case(disk.folder, volume))
    fractions = []
    while not task.run(0.0):
        assert headless.scene.GetNumberOfNodes() == before
        fractions.append(task.fraction)
    assert len(fractions) >= 5
    assert fractions == sorted(fractions)
    assert 0.5 < fractions[-1] <= 1
    assert task.result.segmentation is not None


def test_given_up_in_the_middle_everything_is_as_it_was(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, regions=True)
    volume = load_volume(headless.scene, disk.image, "x")
    before = headless.scene.GetNumberOfNodes()
    for after in (1, 3, 5):
        task = SteppedTask(load_case_steps(disk.folder, volume), 1)
        for _ in range(after):
            assert not task.run(0.0)
        task.cancel()
        assert (task.run(0.0), headless.scene.GetNumberOfNodes()) == (True, before)


def test_hash_of_a_segmentation_is_computed_again_only_after_a_change(tmp_path, data_folder, monkeypatch):
    case = loaded_case(tmp_path, data_folder)
    from SegWithUSlicerLib.scene import segmentation as module

    asked = []
    steps = module._hash_steps
    monkeypatch.setattr(module, "_hash_steps", lambda entries: asked.append(1) or steps(entries))
    node = case.nodes.segmentation
    before = content_hash(node)
    assert not was_touched(node)
    assert asked == [], "known since it was filled"
    module._hashes.clear()
    assert content_hash(node) == before
    assert asked == [1]
    node.GetSegmentation().GetNthSegment(0).SetName("renamed")
    assert was_touched(node)
    assert asked == [1, 1]


def test_finish_returns_what_the_steps_return():
    def steps():
        yield 1.0
        return "done"

    assert finish(steps()) == "done"
