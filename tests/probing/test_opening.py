"""How connections are opened, and what is said of those that are not."""


def entry(address):
    family = 10 if ":" in address else 2
    return (family, 1, 6, "", (address, 80))


async def test_one_address_is_tried_and_the_others_are_named(lab):
    lab.connections.lookup = lambda *_, **__: [entry(f"127.0.0.{last}") for last in (1, 2, 3, 4, 5)]
    result = await lab.probe("http://many.test:1/v1", "models")
    assert result.outcome.kind == "connect"
    assert "(127.0.0.1 port 1; not tried: 127.0.0.2, 127.0.0.3, 127.0.0.4)" in result.outcome.detail
