"""The plain target lends what it was given."""

from __future__ import annotations

from aflamingock.abc import Offer
from aflamingock.targets.plain import NonTransactionalTargetSystem


class Mailer:
    pass


async def test_objects_are_lent_by_keyword_and_offered_by_class():
    mailer = Mailer()
    target = NonTransactionalTargetSystem("mail", mailer=mailer, limit=3)

    assert target.id == "mail"
    assert target.offers() == (
        Offer(names=("mailer",), type=Mailer),
        Offer(names=("limit",), type=int),
    )
    async with target, target.handles() as objects:
        assert objects == {"mailer": mailer, "limit": 3}
        assert objects["mailer"] is mailer


async def test_a_change_to_what_is_lent_changes_nothing():
    async with NonTransactionalTargetSystem("mail", limit=3) as target:
        async with target.handles() as objects:
            assert isinstance(objects, dict)
            objects.clear()

        async with target.handles() as objects:
            assert objects == {"limit": 3}


def test_its_name_is_short():
    assert repr(NonTransactionalTargetSystem("mail", x=1)) == "NonTransactionalTargetSystem('mail')"
