/*
 * test_swing.c: what has fallen and risen again counts, and for how long; growth, the first fall and what merely
 * stays in use do not.
 */
#include "testing.h"

#include "global/swing.h"

#include <unistd.h>

static void let_a_window_pass(struct swing *s)
{
    usleep((SWING_MS + 50) * 1000);
    swing_width(s);
}

static void test_growth_and_the_first_fall_prove_nothing(void **state)
{
    (void)state;
    struct swing s = {0};
    for (int i = 0; i < 100; i++) {
        swing_take(&s, 10);
        assert_int_equal(swing_width(&s), 0);
    }
    for (int i = 0; i < 50; i++) {
        swing_return(&s, 10);
        assert_int_equal(swing_width(&s), 0);
    }
    assert_int_equal(swing_used(&s), 500);
}

static void test_what_rises_again_counts(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    swing_return(&s, 80);
    swing_take(&s, 30);
    assert_int_equal(swing_width(&s), 30);
    swing_return(&s, 10);
    assert_int_equal(swing_width(&s), 30);
    swing_take(&s, 500); /* from 20 to the old peak of 100; beyond, it is growth */
    assert_int_equal(swing_width(&s), 80);
    swing_return(&s, 500);
    assert_int_equal(swing_width(&s), 80);
}

static void test_it_is_forgotten(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 100);
    swing_return(&s, 100);
    swing_take(&s, 60);
    let_a_window_pass(&s);
    assert_int_equal(swing_width(&s), 60);
    let_a_window_pass(&s);
    assert_int_equal(swing_width(&s), 0);
}

/* Where it began at a window's end, the peak is that of the window before. */
static void test_a_swing_over_two_windows(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 100);
    swing_return(&s, 90);
    let_a_window_pass(&s);
    swing_take(&s, 70);
    assert_int_equal(swing_width(&s), 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_and_the_first_fall_prove_nothing),
        cmocka_unit_test(test_what_rises_again_counts),
        cmocka_unit_test(test_it_is_forgotten),
        cmocka_unit_test(test_a_swing_over_two_windows),
    };
    return RUN_TESTS(tests);
}
