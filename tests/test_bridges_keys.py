from purista.bridges.keys import Keys


def test_a_key_is_taken_once_in_its_window():
    keys = Keys()
    assert keys.take("queue", "a", now=0, window=10)
    assert not keys.take("queue", "a", now=9.9, window=10)
    assert keys.take("queue", "a", now=10, window=10)
    assert not keys.take("queue", "a", now=19.9, window=10)


def test_a_float_that_is_a_little_late_does_not_prolong_the_window():
    keys = Keys()
    assert keys.take("queue", "a", now=0.1, window=0.2)
    assert keys.take("queue", "a", now=0.3, window=0.2)


def test_queue_and_key_do_not_run_into_one_another():
    keys = Keys()
    assert keys.take("queue", "a.b", now=0, window=10)
    assert keys.take("queue.a", "b", now=0, window=10)
    assert keys.take("queue", "", now=0, window=10)
    assert not keys.take("queue", "", now=0, window=10)


def test_a_window_of_nothing_keeps_nothing():
    keys = Keys()
    assert keys.take("queue", "a", now=0, window=0)
    assert keys.take("queue", "a", now=0, window=-1)
    assert len(keys) == 0


def test_keys_whose_window_is_over_do_not_pile_up():
    keys = Keys()
    for number in range(10_000):
        keys.take("queue", str(number), now=number, window=10)
    assert len(keys) <= 11


def test_many_keys_that_end_at_once_are_dropped_little_by_little():
    keys = Keys()
    for number in range(1000):
        keys.take("queue", str(number), now=0, window=10)
    assert keys.take("queue", "999", now=10, window=10), "its window is over, dropped or not"
    assert len(keys) > 900
    for _ in range(100):
        keys.take("queue", "other", now=10, window=10)
    assert len(keys) == 2
    assert not keys.take("queue", "999", now=19, window=10)
