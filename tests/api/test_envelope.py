from __future__ import annotations

import pytest

from appliance.api.envelope import encode, failure, plain, success


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": [], "c": {}}}, '{"a":{"c":{},"d":[]},"b":1}'),
        ({"B": 1, "a": 2}, '{"B":1,"a":2}'),
        (30.0, "30.0"),
        (29.970029830932617, "29.970029830932617"),
        ("a/b", '"a/b"'),
        ("é", '"\\u00e9"'),
        ("\N{CLAPPER BOARD}", '"\\ud83c\\udfac"'),
        ({"z": "é", "a": 1.0}, '{"a":1.0,"z":"\\u00e9"}'),
        ('"\\\n\x01', '"\\"\\\\\\n\\u0001"'),
    ],
)
def test_json_is_compact_sorted_ascii(value: object, text: str) -> None:
    assert encode(value) == text.encode()


def test_envelopes() -> None:
    assert success(["a"]).body == b'{"message":"OK","response":["a"],"statusCode":200}'
    assert failure(404, 'no "x"').body == b'{"message":"[HTTP] no \\"x\\" (404)","statusCode":404}'
    assert plain(403).body == b'{"message":"Forbidden","statusCode":403}'
