/*
 * test_size_class.c: one pure function routes every size, with no gap and little slack.
 */
#include "testing.h"

#include "global/size_class.h"

static void test_every_size_has_the_least_class(void **state)
{
    (void)state;
    assert_int_equal(size_to_class(0), 0);
    for (size_t n = 1; n <= SIZE_SLAB_MAX; n++) {
        unsigned class_no = size_to_class(n);
        assert_true(class_no < SIZE_CLASS_COUNT);
        assert_true(size_class_bytes[class_no] >= n);
        assert_true(class_no == 0 || size_class_bytes[class_no - 1] < n);
    }
}

static void test_steps_are_small(void **state)
{
    (void)state;
    for (unsigned i = 8; size_class_bytes[i - 1] < SIZE_RUN_LEAST; i++)
        assert_true((size_class_bytes[i] - size_class_bytes[i - 1]) * 4 <= size_class_bytes[i - 1]);
    assert_int_equal(size_class_bytes[SIZE_CLASS_COUNT - 2], SIZE_RUN_LEAST); /* then whole units */
    assert_int_equal(size_class_bytes[SIZE_CLASS_COUNT - 1], UNIT_SIZE);
}

static void test_offsets_are_those_of_bins(void **state)
{
    (void)state;
    for (size_t n = 0; n <= SIZE_SLAB_MAX; n += 16)
        assert_int_equal(size_to_bin_place(n), SIZE_BIN_PLACE(size_to_class(n)));
}

static void test_aligned_classes(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= SIZE_SLAB_MAX; alignment *= 2)
        for (size_t n = 1; n <= SIZE_SLAB_MAX; n++) {
            size_t ask = size_to_aligned(n, alignment);
            assert_true(ask >= n && ask <= SIZE_SLAB_MAX);
            assert_int_equal(size_class_bytes[size_to_class(ask)] % alignment, 0);
        }
}

static void test_blocks_are_numbered_exactly(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        for (uint32_t offset = 0; offset < SIZE_SLAB_BYTES; offset += 16)
            assert_int_equal(size_blocks_before(offset, i), offset / size_class_bytes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size_has_the_least_class),
        cmocka_unit_test(test_steps_are_small),
        cmocka_unit_test(test_offsets_are_those_of_bins),
        cmocka_unit_test(test_aligned_classes),
        cmocka_unit_test(test_blocks_are_numbered_exactly),
    };
    return RUN_TESTS(tests);
}
