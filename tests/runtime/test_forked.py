"""Sessions and pools in a process that was forked after they were opened, and in no other."""

import copy
import os
import pickle
import signal
import subprocess
import sys

import pytest

from runtime.errors import BackendError
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Python 3.12's, about threads
]
THREADS = 4
"""Some of ONNX Runtime's own, for which the end of a session waits."""
CALLS = {
    "predict": lambda session, frame: session.predict(frame),
    "features": lambda session, frame: session.features([frame]),
    "predict_many": lambda session, frame: session.predict_many([(frame, "a-c")]),
    "switch": lambda session, frame: session.switch("a-c"),
    "load": lambda session, frame: session.load("a-d"),
    "prefetch": lambda session, frame: session.prefetch("a-d"),
    "pin": lambda session, frame: session.pin("a-d"),
    "refresh": lambda session, frame: session.refresh(),
    "base_sha256": lambda session, frame: session.base_sha256(),
}
OF_A_POOL = {
    "predict": lambda pool, frame: pool.predict(frame, "a-b"),
    "predict_many": lambda pool, frame: pool.predict_many([(frame, "a-b"), (frame, "a-c")]),
    "refresh": lambda pool, frame: pool.refresh(),
}


def in_fork(work):
    """Return the exit status of a forked process that calls `work` and ends as programs do."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            work()
        finally:
            os._exit(9)  # `work` ends it; pytest must not go on in here
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(calls, opened, frame):
    """Return the calls that a forked process does not refuse with one clear error."""

    def work():
        wrong = 0
        for call in calls.values():
            try:
                call(opened, frame)
                wrong += 1
            except BackendError as error:
                wrong += "before its process was forked" not in str(error)
        opened.close()
        os._exit(wrong)

    return in_fork(work)


def test_a_forked_process_is_told_to_open_a_session_of_its_own(world, frame):
    with Session.open(world.path, threads=THREADS) as session:
        want = session.predict(frame, "a-b").logits
        assert refused(CALLS, session, frame) == 0
        assert (session.predict(frame).logits == want).all()


def test_a_forked_process_is_told_to_open_a_pool_of_its_own(world, frame):
    with SessionPool.open(world.path, sessions=2, threads=THREADS) as pool:
        want = pool.predict(frame, "a-b").logits
        assert refused(OF_A_POOL, pool, frame) == 0
        assert (pool.predict(frame, "a-b").logits == want).all()


def test_a_forked_process_opens_one_and_ends_in_order(world):
    code = f"""if True:
        import os, sys, signal, numpy, runtime
        frame = numpy.zeros((9, 9, 3), numpy.uint8)
        def main():
            session = runtime.Session.open(sys.argv[1], threads={THREADS})
            want = session.predict(frame, "a-b").logits
            child = os.fork()
            if not child:
                signal.alarm(20)
                with runtime.Session.open(sys.argv[1], threads=1) as own:
                    sys.exit(7 if (own.predict(frame, "a-b").logits == want).all() else 1)
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        main()
    """
    done = subprocess.run([sys.executable, "-c", code, world.path], timeout=60)
    assert done.returncode == 7


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_cannot_be_copied_says_so(world, send):
    with Session.open(world.path) as session, SessionPool.open(world.path) as pool:
        for each, kind in ((session, "session"), (pool, "pool")):
            with pytest.raises(BackendError, match=f"a {kind} can be neither copied nor pickled"):
                send(each)
