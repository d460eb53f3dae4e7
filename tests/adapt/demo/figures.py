"""Made-up figures of the demo's loop."""

from adapt.demo.loop import CLIP_ART, OLD, PAINTINGS, TASK
from adapt.demo.seen import ADAPTING, Seen, phases, timeline
from runtime.monitoring import harvested


def of(phase, right, known=True, drifts=False, task=OLD):
    """Return what was seen of one frame."""
    return Seen(phase, CLIP_ART, task, right, known, drifts)


def loop_figures():
    """Return figures as `adapt.demo.loop.run` does, of a made-up loop."""
    seen = [of("usual", True)] * 50
    seen += [of("drift", False, known=False, drifts=True)] * 25
    seen += [of("harvest", False, known=False, drifts=True)] * 25
    seen += [of(ADAPTING, False, known=False, drifts=True)] * 1000
    seen += [of("after", True, task=TASK)] * 25 + [of("back", True)] * 25
    parts = {"images": 2, "of_the_scene": 2, "old_task_right": 1}
    image = {"file": "images/harvest/trusted/0.png", "label": "cup", "score": 0.5, "true": "key"}
    verdicts = [("cannot tell", 0, "no frame is sorted"), ("better", 9, "+1 to +2 % <against>")]
    return {
        "old": {CLIP_ART: 100.0, PAINTINGS: 45.54}, "new": {CLIP_ART: 70.0, PAINTINGS: 81.26},
        "schedule": {"drift": 25, "epochs": 3}, "false_alarms": 0, "frames_until_alarm": 7,
        "frames_until_no_task": None, "installed": True,
        "harvested": dict.fromkeys(harvested.PARTS, parts),
        "comparisons": [
            {"verdict": verdict, "sorted": count, "reason": reason}
            for verdict, count, reason in verdicts
        ],
        "pictures": {part: [image] for part in harvested.PARTS},
        "phases": phases(seen), "timeline": timeline(seen),
    }  # fmt: skip
