"""The bytes of a verified model are taken once, by whom the repository gave the token to."""

from kfp_custody.components.seldon_deployment.serving import admitted


def test_files_are_taken_once_with_their_token() -> None:
    token = admitted.hand_over("m", {"a": b"1"})
    assert admitted.take("m", "other") is None
    assert admitted.take("other", token) is None
    assert admitted.take("m", None) is None
    assert admitted.take("m", token) == {"a": b"1"}
    assert admitted.take("m", token) is None


def test_a_later_verification_replaces_an_earlier_one() -> None:
    first, second = admitted.hand_over("m", {"a": b"1"}), admitted.hand_over("m", {"a": b"2"})
    assert admitted.take("m", first) is None
    assert admitted.take("m", second) == {"a": b"2"}
    assert "m" not in admitted._waiting
