/*
 * test_swing.c: what has fallen and risen again counts, and for how long, and what has just fallen;
 * growth and what merely stays in use do not; and what swings deep is told from what does so often.
 */
#include "testing.h"

#include "global/swing.h"
#include "global/window.h"

#include <stdatomic.h>

/* Without waiting for them. */
static void let_windows_pass(struct swing *s, unsigned count)
{
    atomic_fetch_sub(&s->since, count * WINDOW_MS);
    swing_width(s);
}

static void let_a_window_pass(struct swing *s)
{
    let_windows_pass(s, 1);
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
        swing_return(&s, 10, true);
        assert_int_equal(swing_width(&s), 0);
    }
    assert_int_equal(swing_used(&s), 500);
}

static void test_what_rises_again_counts(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    swing_return(&s, 80, true);
    swing_take(&s, 30);
    assert_int_equal(swing_width(&s), 30);
    swing_return(&s, 10, true);
    assert_int_equal(swing_width(&s), 30);
    swing_take(&s, 500); /* from 20 to the old peak of 100; beyond, it is growth */
    assert_int_equal(swing_width(&s), 80);
    swing_return(&s, 500, true);
    assert_int_equal(swing_width(&s), 80);
}

static void test_it_is_forgotten(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 100);
    swing_return(&s, 100, true);
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
    swing_return(&s, 90, true);
    let_a_window_pass(&s);
    swing_take(&s, 70);
    assert_int_equal(swing_width(&s), 70);
}

/* What goes on falling, below where it rose from, does not swing, in this window and the next. */
static void test_what_falls_lower_swings_no_more(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 200);
    swing_return(&s, 50, false);
    swing_take(&s, 40);
    swing_return(&s, 40, false);
    assert_int_equal(swing_width(&s), 40); /* where it rose from, no lower */
    swing_return(&s, 10, false);
    assert_int_equal(swing_width(&s), 30);
    let_a_window_pass(&s);
    assert_int_equal(swing_width(&s), 30);
    swing_return(&s, 100, false);
    assert_int_equal(swing_width(&s), 0);
    swing_take(&s, 100);
    assert_int_equal(swing_width(&s), 100);
}

/* The same swing over less that stays: from there on it is as wide. */
static void test_what_swings_on_lower_down(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 900);
    swing_take(&s, 100);
    swing_return(&s, 100, true);
    swing_take(&s, 100);
    swing_return(&s, 600, true); /* and what stayed is 400 now */
    assert_int_equal(swing_width(&s), 0);
    swing_take(&s, 100);
    swing_return(&s, 100, true);
    assert_int_equal(swing_width(&s), 100);
}

/* What falls counts at once, up to a bound, and half of it is forgotten with each window. */
static void test_a_fall(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_set_fall_most(&s, 60);
    swing_width(&s);
    swing_take(&s, 200);
    swing_return(&s, 100, false); /* by who may not come again */
    assert_int_equal(swing_fall(&s), 0);
    swing_take(&s, 100);
    swing_return(&s, 40, true);
    assert_int_equal(swing_fall(&s), 40);
    swing_take(&s, 30);
    assert_int_equal(swing_fall(&s), 10);
    swing_take(&s, 30);
    assert_int_equal(swing_fall(&s), 0);
    swing_return(&s, 100, true);
    assert_int_equal(swing_fall(&s), 60);
    let_a_window_pass(&s);
    assert_int_equal(swing_fall(&s), 30);
    let_a_window_pass(&s);
    assert_int_equal(swing_fall(&s), 15);
}

static void test_what_counts_of_a_fall(void **state)
{
    (void)state;
    assert_int_equal(swing_fall_bound(0, 100, 8), 0);
    assert_int_equal(swing_fall_bound(50, 100, 8), 400);
    assert_int_equal(swing_fall_bound(100, 100, 8), 800);
    assert_int_equal(swing_fall_bound(700, 100, 8), 800);
    assert_int_equal(swing_fall_bound(900, 100, 8), 900);
}

static void fall_and_rise(struct swing *s, long to, int times)
{
    long from = swing_used(s);
    for (int i = 0; i < times; i++) {
        swing_return(s, from - to, true);
        swing_take(s, from - to);
    }
}

static void test_often_is_deep_and_three_times(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    fall_and_rise(&s, 50, 100); /* half of the peak: not below it */
    assert_false(swing_is_often(&s));
    fall_and_rise(&s, 49, SWING_OFTEN - 1);
    assert_false(swing_is_often(&s));
    swing_return(&s, 100, true);
    swing_take(&s, 49); /* not half of what it fell by */
    fall_and_rise(&s, 0, 100);
    assert_false(swing_is_often(&s));
    swing_take(&s, 1);
    assert_true(swing_is_often(&s));
}

/* One phase that needs more than the others does not hide that they swing. */
static void test_phases_need_not_be_alike(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    for (int i = 0; i < SWING_OFTEN; i++) {
        assert_false(swing_is_often(&s));
        swing_return(&s, swing_used(&s), true);
        swing_take(&s, 60);
    }
    assert_true(swing_is_often(&s));
}

/* Nor is what falls by steps, and a little back at each. */
static void test_to_fall_by_steps_is_not_to_swing(void **state)
{
    (void)state;
    static const long steps[] = {49, 24, 11, 5};
    struct swing s = {0};
    swing_take(&s, 100);
    fall_and_rise(&s, 0, 1);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        swing_return(&s, swing_used(&s) - steps[i], true);
        swing_take(&s, 1);
    }
    assert_false(swing_is_often(&s));
}

/* Nor is half of what it once was: that is what it has come to, since it rose. */
static void test_what_it_came_to_is_since_it_rose(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    swing_return(&s, 100, true);
    swing_take(&s, 75); /* once */
    fall_and_rise(&s, 45, 100);
    assert_false(swing_is_often(&s));
}

/* After a fall that stays there is nothing that it could rise to again. */
static void test_to_stay_low_is_to_have_come_to_less(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 100);
    swing_return(&s, 60, true);
    let_windows_pass(&s, 2);
    swing_take(&s, 3);
    assert_int_equal(atomic_load(&s.deep), 0);
}

/* What it had come to is forgotten with the peak. */
static void test_an_old_crest_is_forgotten(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_width(&s);
    swing_take(&s, 1000);
    swing_return(&s, 900, true);
    let_windows_pass(&s, 2);
    fall_and_rise(&s, 0, SWING_OFTEN);
    assert_true(swing_is_often(&s));
}

static void test_small_swings_say_nothing_of_large_ones(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_take(&s, 100);
    fall_and_rise(&s, 0, 100);
    swing_take(&s, 100); /* twice as high */
    assert_true(swing_is_often(&s));
    swing_take(&s, 2);
    assert_false(swing_is_often(&s));
    fall_and_rise(&s, 0, SWING_OFTEN - 1);
    assert_false(swing_is_often(&s));
    fall_and_rise(&s, 0, 1);
    assert_true(swing_is_often(&s));
}

static void swing_often(struct swing *s)
{
    swing_width(s);
    swing_take(s, 100);
    fall_and_rise(s, 0, SWING_OFTEN);
}

static void test_often_is_of_late(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_often(&s);
    let_a_window_pass(&s);
    assert_true(swing_is_often(&s));
    let_a_window_pass(&s);
    assert_false(swing_is_often(&s));
}

/* All windows are over that have passed while nobody asked. */
static void test_forgotten_without_asking(void **state)
{
    (void)state;
    struct swing s = {0};
    swing_set_fall_most(&s, 80);
    swing_often(&s);
    swing_return(&s, 80, true);
    let_windows_pass(&s, 3);
    assert_int_equal(swing_width(&s), 0);
    assert_false(swing_is_often(&s));
    assert_int_equal(swing_fall(&s), 10);
}

/* Where one takes and another returns, it has swung, but is not often. */
static void test_who_only_returns_may_not_come_again(void **state)
{
    (void)state;
    struct swing s = {0};
    for (int i = 0; i < 100; i++) {
        swing_take(&s, 100);
        swing_return(&s, 100, false);
    }
    assert_int_equal(swing_width(&s), 100);
    assert_false(swing_is_often(&s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_and_the_first_fall_prove_nothing),
        cmocka_unit_test(test_what_rises_again_counts),
        cmocka_unit_test(test_it_is_forgotten),
        cmocka_unit_test(test_a_swing_over_two_windows),
        cmocka_unit_test(test_what_falls_lower_swings_no_more),
        cmocka_unit_test(test_what_swings_on_lower_down),
        cmocka_unit_test(test_a_fall),
        cmocka_unit_test(test_what_counts_of_a_fall),
        cmocka_unit_test(test_often_is_deep_and_three_times),
        cmocka_unit_test(test_phases_need_not_be_alike),
        cmocka_unit_test(test_to_fall_by_steps_is_not_to_swing),
        cmocka_unit_test(test_what_it_came_to_is_since_it_rose),
        cmocka_unit_test(test_to_stay_low_is_to_have_come_to_less),
        cmocka_unit_test(test_an_old_crest_is_forgotten),
        cmocka_unit_test(test_small_swings_say_nothing_of_large_ones),
        cmocka_unit_test(test_often_is_of_late),
        cmocka_unit_test(test_forgotten_without_asking),
        cmocka_unit_test(test_who_only_returns_may_not_come_again),
    };
    return RUN_TESTS(tests);
}
