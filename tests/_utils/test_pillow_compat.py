from PIL import Image

from effboost._utils.pillow_compat import large_blocks


def test_large_blocks_are_used_until_the_last_user_leaves():
    before = Image.core.get_block_size()
    with large_blocks():
        inside = Image.core.get_block_size()
        assert inside > before
        with large_blocks():
            assert Image.core.get_block_size() == inside
        assert Image.core.get_block_size() == inside
    assert Image.core.get_block_size() == before
