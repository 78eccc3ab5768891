/*
 * test_total.c: what is kept, where units and whales take over from each other.
 */
#include "testing.h"

#include "global/segment.h"
#include "global/total.h"
#include "global/whale.h"
#include "global/window.h"

#include "hakmem.h"

#include <string.h>
#include <unistd.h>

enum { RUNS = 120, WHALES = 6 };

static void *run[RUNS], *whale[WHALES];

static void take(void **p, int count, size_t bytes)
{
    for (int i = 0; i < count; i++)
        memset(p[i] = hak_malloc(bytes), 1, bytes);
}

static void give_back(void **p, int count)
{
    for (int i = 0; i < count; i++)
        hak_free(p[i]);
}

/* The first of all tests: there is no peak yet. */
static void test_the_peak_is_that_of_both(void **state)
{
    (void)state;
    const long mib = MIB(1);
    take(run, 2, MIB(3));
    give_back(run, 2); /* so few that none is purged; too long for the heap to keep */
    assert_in_range(total_fallen(), 6 * mib - mib / 2, 7 * mib);
    take(whale, 1, MIB(6));
    assert_in_range(total_fallen(), 0, mib);
    give_back(whale, 1);
    assert_in_range(total_fallen(), 6 * mib - mib / 2, 7 * mib);
    for (int i = 0; i < 3; i++) {
        usleep((WINDOW_MS + 50) * 1000);
        total_fallen();
    }
    assert_int_equal(total_fallen(), 0);
}

/* Thirty MiB of each by turns: both swing, and neither keeps what the other has taken over. The
 * heap keeps 2 MiB of the runs. */
static void test_what_the_other_took_over_goes(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        take(run, RUNS, KIB(256));
        assert_in_range(whale_cached_bytes(), 0, MIB(11));
        give_back(run, RUNS);
        take(whale, WHALES, MIB(5));
        assert_in_range(segment_dirty_units() * (long)UNIT_SIZE, 0, MIB(12));
        give_back(whale, WHALES);
    }
}

/* And it stays, where nothing takes it over, but for what the heap keeps itself (32 units):
 * each comes back at once. More rounds where the machine
 * is so slow that they do not count as often. */
static void test_what_comes_back_stays(void **state)
{
    (void)state;
    for (int i = 0; i < 40 && (i < 8 || segment_dirty_units() < 4 * RUNS - 48); i++) {
        take(run, RUNS, KIB(256));
        give_back(run, RUNS);
    }
    assert_in_range(segment_dirty_units(), 4 * RUNS - 48, 5 * RUNS);
    for (int i = 0; i < 40 && (i < 8 || whale_cached_bytes() < MIB(24)); i++) {
        take(whale, WHALES, MIB(5));
        give_back(whale, WHALES);
    }
    assert_in_range(whale_cached_bytes(), MIB(24), MIB(30));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_peak_is_that_of_both),
        cmocka_unit_test(test_what_the_other_took_over_goes),
        cmocka_unit_test(test_what_comes_back_stays),
    };
    return RUN_TESTS(tests);
}
