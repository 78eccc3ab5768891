/*
 * test_segment.c: units are taken and returned, alone and in runs; free ones are purged; empty
 * segments go back to the system after a grace period, which a stopped reader delays and nobody
 * waits for.
 */
#include "testing.h"

#include "global/os.h"
#include "global/segment.h"
#include "global/swing.h"
#include "global/window.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void test_units_are_distinct(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    struct units taken[COUNT];
    for (int i = 0; i < COUNT; i++) {
        taken[i] = segment_take(1, UNIT_SIZE);
        assert_int_equal(taken[i].units, 1);
        memset(segment_unit(taken[i].segment, taken[i].first), i, UNIT_SIZE);
    }
    for (int i = 0; i < COUNT; i++) {
        unsigned char *p = (unsigned char *)segment_unit(taken[i].segment, taken[i].first);
        assert_int_equal(p[0], i);
        assert_int_equal(p[UNIT_SIZE - 1], i);
        assert_ptr_equal(segment_of(p), taken[i].segment);
        assert_int_equal(segment_unit_of(p), taken[i].first);
    }
    for (int i = 0; i < COUNT; i++)
        segment_return(taken[i].segment, taken[i].first, 1, true);
}

static void test_runs_are_whole_and_aligned(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= UNITS_PER_SEGMENT; count++)
        for (size_t alignment = UNIT_SIZE; alignment <= SEGMENT_SIZE; alignment *= 2) {
            struct units taken = segment_take(count, alignment);
            assert_int_equal(taken.units, count);
            assert_true(taken.first + count <= UNITS_PER_SEGMENT);
            uintptr_t at = (uintptr_t)segment_unit(taken.segment, taken.first);
            assert_int_equal(at % alignment, 0);
            segment_return(taken.segment, taken.first, count, true);
        }
}

/* A segment that was too cut up for a run is looked at again once a return has made one. */
static void test_a_run_that_comes_to_be_is_found(void **state)
{
    (void)state;
    enum { MOST = 20000 };
    static struct units other[MOST];
    struct units cut = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    segment_return(cut.segment, 0, 1, true);
    segment_return(cut.segment, 2, 1, true);
    for (int i = 0; i < MOST / 2; i++) {
        other[i] = segment_take(2, UNIT_SIZE);
        assert_ptr_not_equal(other[i].segment, cut.segment);
    }
    segment_return(cut.segment, 1, 1, true);
    int i = MOST / 2;
    while (i < MOST && (other[i] = segment_take(2, UNIT_SIZE)).segment != cut.segment)
        i++;
    assert_in_range(i, 0, MOST / 2 + (int)UNITS_PER_SEGMENT / 2);
    segment_return(cut.segment, 3, UNITS_PER_SEGMENT - 3, true);
    segment_return(cut.segment, other[i].first == 0 ? 2 : 0, 1, true);
    while (i >= 0) {
        segment_return(other[i].segment, other[i].first, 2, true);
        i--;
    }
}

static void test_zeroed_is_true(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        struct units taken = segment_take(1 + (unsigned)i % 5, UNIT_SIZE);
        char *p = segment_unit(taken.segment, taken.first);
        for (size_t k = 0; taken.zeroed && k < taken.units * UNIT_SIZE; k += 512)
            assert_int_equal(p[k], 0);
        memset(p, 1, taken.units * UNIT_SIZE);
        segment_return(taken.segment, taken.first, taken.units, true);
        if (i % 7 == 0)
            segment_purge(0);
    }
}

enum { LIMIT = 128, FALL_MOST = 16 * LIMIT, SWUNG = 1000, STAY = 100 };

/* The most that were dirty while `returned` of SWUNG units went back. */
static long return_units(struct units *taken, int returned, bool comes_again)
{
    long most = 0;
    for (int i = 0; i < returned; i++) {
        segment_return(taken[i].segment, taken[i].first, 1, comes_again);
        most = segment_dirty_units() > most ? segment_dirty_units() : most;
    }
    return most;
}

static void take_units(struct units *taken, int count)
{
    for (int i = 0; i < count; i++)
        taken[i] = segment_take(1, UNIT_SIZE);
}

/* At first as many as the limit says. When use has swung, as many as it swung by stay, but no more
 * than are in use and half of the limit. The first of all tests: what use swings by counts. */
static void test_dirty_units_are_bounded(void **state)
{
    (void)state;
    struct units taken[SWUNG];
    segment_set_purge_limit(LIMIT);
    take_units(taken, SWUNG);
    assert_in_range(return_units(taken, SWUNG - STAY, false), LIMIT / 2, LIMIT + 1);
    take_units(taken, SWUNG - STAY);
    assert_in_range(return_units(taken, SWUNG - STAY, false), SWUNG / 3,
                    (LIMIT + SWUNG + LIMIT / 2) / 2 + 1);
    assert_in_range(segment_dirty_units(), LIMIT, LIMIT + STAY + LIMIT / 2);
    return_units(taken + SWUNG - STAY, STAY, false);
    assert_in_range(segment_dirty_units(), LIMIT / 2, LIMIT + LIMIT / 2);
    segment_purge(0);
    assert_int_equal(segment_dirty_units(), 0);
}

/* An eighth of the limit for each heap, until it goes. */
static void test_what_stays_for_heaps_goes_with_them(void **state)
{
    (void)state;
    enum { HEAPS = 16, FOR_HEAPS = HEAPS * (LIMIT / 8) };
    struct units taken[SWUNG];
    segment_count_heaps(HEAPS);
    for (int i = 0; i < 2; i++) {
        take_units(taken, SWUNG);
        return_units(taken, SWUNG, false);
    }
    assert_in_range(segment_dirty_units(), (LIMIT + FOR_HEAPS) / 2, LIMIT + FOR_HEAPS);
    for (int i = 0; i < HEAPS; i++)
        segment_count_heaps(-1);
    assert_in_range(segment_dirty_units(), 0, LIMIT + LIMIT / 2);
    segment_purge(0);
}

/* A unit with memory in it is taken first, even from a segment that others come before. */
static void test_dirty_units_are_taken_first(void **state)
{
    (void)state;
    struct units taken[200];
    for (int i = 0; i < 200; i++)
        taken[i] = segment_take(1, UNIT_SIZE);
    segment_return(taken[0].segment, taken[0].first, 1, true);
    segment_purge(0);
    segment_return(taken[199].segment, taken[199].first, 1, true);
    assert_ptr_not_equal(taken[0].segment, taken[199].segment);
    struct units again = segment_take(1, UNIT_SIZE);
    assert_ptr_equal(again.segment, taken[199].segment);
    assert_int_equal(again.first, taken[199].first);
    taken[199] = again;
    for (int i = 1; i < 200; i++)
        segment_return(taken[i].segment, taken[i].first, 1, true);
    segment_purge(0);
}

/* Sanitizers make mlock() do nothing. */
static long lock(long call, struct units units)
{
    return syscall(call, segment_unit(units.segment, units.first), UNIT_SIZE);
}

/* Locked pages can't be given back: they stay, the system is not asked at each return, and unlocked
 * they go. */
static void test_locked_memory(void **state)
{
    (void)state;
    struct units taken[60];
    segment_set_purge_limit(16);
    for (int i = 0; i < 60; i++) {
        taken[i] = segment_take(1, UNIT_SIZE);
        if (lock(SYS_mlock, taken[i]) != 0)
            skip();
    }
    for (int i = 0; i < 60; i++)
        segment_return(taken[i].segment, taken[i].first, 1, true);
    assert_true(segment_dirty_units() >= 60);
    for (int i = 0; i < 60; i++)
        lock(SYS_munlock, taken[i]);
    segment_purge(0);
    assert_int_equal(segment_dirty_units(), 0);
    segment_set_purge_limit(128);
}

static bool is_mapped(void *p)
{
    unsigned char present;
    return mincore(p, 4096, &present) == 0;
}

/* Of so many that become empty, some stay: EMPTY_KEPT, and those whose units may stay dirty. */
enum { EMPTIED = 40, STAY_MAPPED = 10 };

static void map_and_empty_many(char **base)
{
    struct units taken[EMPTIED];
    for (int i = 0; i < EMPTIED; i++) {
        taken[i] = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
        base[i] = segment_unit(taken[i].segment, 0);
    }
    for (int i = 0; i < EMPTIED; i++)
        segment_return(taken[i].segment, 0, UNITS_PER_SEGMENT, false);
}

static int count_mapped(char **base)
{
    int mapped = 0;
    for (int i = 0; i < EMPTIED; i++)
        mapped += is_mapped(base[i]);
    return mapped;
}

static void test_empty_segments_are_unmapped(void **state)
{
    (void)state;
    char *base[EMPTIED];
    map_and_empty_many(base);
    rcu_poll();
    assert_in_range(count_mapped(base), 0, STAY_MAPPED);
    for (int i = 0; i < EMPTIED; i++) {
        assert_int_equal(registry_word(base[i]), is_mapped(base[i]) ? UNIT_FREE : UNIT_FOREIGN);
        assert_int_equal(registry_region(base[i]) != NULL, is_mapped(base[i]));
    }
}

/* A reader stays in its section until told; meanwhile nothing is unmapped, and nobody waits. */
static _Atomic(int) reader_stage;

static void *read_until_told(void *argument)
{
    (void)argument;
    hak_rcu_read_lock();
    atomic_store(&reader_stage, 1);
    while (atomic_load(&reader_stage) == 1)
        usleep(1000);
    hak_rcu_read_unlock();
    atomic_store(&reader_stage, 3);
    while (atomic_load(&reader_stage) == 3)
        usleep(1000);
    return NULL;
}

static void wait_for_stage(int stage)
{
    while (atomic_load(&reader_stage) != stage)
        usleep(1000);
}

static void test_a_reader_delays_unmapping_only(void **state)
{
    (void)state;
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_until_told, NULL), 0);
    wait_for_stage(1);
    char *base[EMPTIED];
    map_and_empty_many(base);
    for (int i = 0; i < 100; i++)
        rcu_poll();
    assert_int_equal(count_mapped(base), EMPTIED);
    struct units taken = segment_take(3, UNIT_SIZE); /* allocation goes on */
    assert_int_equal(taken.units, 3);
    segment_return(taken.segment, taken.first, 3, true);
    atomic_store(&reader_stage, 2);
    wait_for_stage(3);
    for (int i = 0; i < 6; i++) /* what was retired while the reader was there is two batches */
        rcu_poll();
    assert_in_range(count_mapped(base), 0, STAY_MAPPED);
    atomic_store(&reader_stage, 4);
    pthread_join(reader, NULL);
}

static void ignore(struct region *region, void *context)
{
    (void)region;
    (void)context;
}

static struct retired stopped_one, next_one;
static _Atomic(int) reclaimed, stage_of_stop;

static void reclaim_and_stop(struct retired *retired)
{
    (void)retired;
    atomic_store(&stage_of_stop, 1);
    while (atomic_load(&stage_of_stop) == 1)
        usleep(1000);
}

static void reclaim_and_count(struct retired *retired)
{
    (void)retired;
    atomic_fetch_add(&reclaimed, 1);
}

static void *retire_and_stop(void *argument)
{
    rcu_retire(&stopped_one, reclaim_and_stop);
    return argument;
}

/* There have been readers, so that there is a poller. */
static void test_a_stopped_poller_keeps_nobody_from_reclaiming(void **state)
{
    (void)state;
    pthread_t thread;
    registry_walk(ignore, NULL);
    assert_int_equal(pthread_create(&thread, NULL, retire_and_stop, NULL), 0);
    while (atomic_load(&stage_of_stop) != 1)
        usleep(1000);
    rcu_retire(&next_one, reclaim_and_count);
    assert_int_equal(atomic_load(&reclaimed), 1);
    atomic_store(&stage_of_stop, 2);
    pthread_join(thread, NULL);
}

static void count(struct region *region, void *context)
{
    assert_true(region->kind == REGION_SEGMENT || region->kind == REGION_WHALE);
    ++*(int *)context;
}

static void test_walk_sees_what_is_there(void **state)
{
    (void)state;
    int before = 0, after = 0;
    struct units taken[20];
    registry_walk(count, &before);
    for (int i = 0; i < 20; i++)
        taken[i] = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    registry_walk(count, &after);
    assert_true(after >= 20 && after >= before);
    for (int i = 0; i < 20; i++)
        segment_return(taken[i].segment, 0, UNITS_PER_SEGMENT, true);
}

static void test_foreign_addresses(void **state)
{
    int local;
    assert_int_equal(registry_word(&local), UNIT_FOREIGN);
    assert_int_equal(registry_word(state), UNIT_FOREIGN);
    assert_int_equal(registry_word(NULL), UNIT_FOREIGN);
    assert_int_equal(registry_word((void *)(((uintptr_t)1 << PROCESSOR_ADDRESS_BITS) - 1)),
                     UNIT_FOREIGN);
    /* Not an address that anything can have. */
    for (unsigned bit = PROCESSOR_ADDRESS_BITS; bit < 64; bit++)
        assert_int_equal(registry_word((void *)((uintptr_t)1 << bit)), UNIT_FOREIGN);
    assert_int_equal(registry_word((void *)UINTPTR_MAX), UNIT_FOREIGN);
}

/* Where use swings often, all of it stays. The last of all tests: it goes for the next second or
 * two. */
static void test_all_stays_where_use_swings_often(void **state)
{
    (void)state;
    enum { OFTEN = 6000 }; /* more than twice what the others took */
    static struct units taken[OFTEN];
    segment_set_purge_limit(LIMIT);
    for (int i = 0; i < SWING_OFTEN; i++) {
        take_units(taken, OFTEN);
        return_units(taken, OFTEN, true);
        assert_in_range(segment_dirty_units(), 0, LIMIT + FALL_MOST + 1);
    }
    take_units(taken, OFTEN);
    return_units(taken, OFTEN, true);
    assert_in_range(segment_dirty_units(), OFTEN, OFTEN + LIMIT);
}

/* Runs of all lengths, replaced in random order while use stays: what is free is in gaps, where the
 * next may not fit. They stay, or nearly each run would be of new pages; they are not more than
 * half of what is in use. In a process of its own, where nothing has swung. */
static void test_gaps_that_runs_leave_stay(void **state)
{
    (void)state;
    enum { RUNS = 100, WARM = 4000, STEPS = 4000, LONGEST = 16 };
    struct units run[RUNS] = {0};
    long taken = 0, clean = 0, used;
    segment_set_purge_limit(LIMIT);
    for (int i = 0; i < WARM + STEPS; i++) {
        struct units *r = &run[random() % RUNS];
        if (r->units != 0)
            segment_return(r->segment, r->first, r->units, false);
        long dirty = segment_dirty_units();
        *r = segment_take(1 + (unsigned)random() % LONGEST, UNIT_SIZE);
        taken += i >= WARM ? r->units : 0;
        clean += i >= WARM ? r->units - (dirty - segment_dirty_units()) : 0;
    }
    used = segment_used_bytes() / (long)UNIT_SIZE;
    print_message("%ld units taken, %ld clean; %ld in use, %ld dirty\n", taken, clean, used,
                  segment_dirty_units());
    assert_true(clean * 200 < taken);
    assert_in_range(segment_dirty_units(), 0, LIMIT + used / 2 + LONGEST);
    for (int i = 0; i < RUNS; i++)
        segment_return(run[i].segment, run[i].first, run[i].units, false);
    assert_in_range(segment_dirty_units(), 0, LIMIT + LIMIT / 2);
}

static void use_one(void)
{
    struct units one = segment_take(1, UNIT_SIZE);
    segment_return(one.segment, one.first, 1, true);
}

/* What the first fall of who comes again leaves stays, up to 16 times the limit; and half of
 * that is forgotten with each window in which something is returned. In a process of its own. */
static void test_what_a_fall_leaves_stays_for_a_while(void **state)
{
    (void)state;
    enum { FALLEN = 3 * FALL_MOST, PARTS = 100 };
    static struct units taken[FALLEN];
    segment_set_purge_limit(LIMIT);
    take_units(taken, FALLEN);
    return_units(taken, FALLEN, true);
    assert_in_range(segment_dirty_units(), FALL_MOST / 2, LIMIT + FALL_MOST);
    for (long most = FALL_MOST / 2; most > LIMIT; most /= 2) {
        usleep((WINDOW_MS + 50) * 1000);
        for (int i = 0; i < PARTS; i++)
            use_one();
        assert_in_range(segment_dirty_units(), 0, LIMIT + most);
    }
}

/* The same, of who only frees: he may be the last who calls. */
static void test_the_fall_of_who_only_frees_leaves_nothing(void **state)
{
    (void)state;
    enum { FALLEN = 3 * FALL_MOST };
    static struct units taken[FALLEN];
    segment_set_purge_limit(LIMIT);
    take_units(taken, FALLEN);
    return_units(taken, FALLEN, false);
    assert_in_range(segment_dirty_units(), 0, LIMIT);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest gaps[] = {cmocka_unit_test(test_gaps_that_runs_leave_stay)};
    if (argc > 1 && strcmp(argv[1], "gaps") == 0)
        return RUN_TESTS(gaps);
    const struct CMUnitTest falls[] = {
        cmocka_unit_test(test_the_fall_of_who_only_frees_leaves_nothing),
        cmocka_unit_test(test_what_a_fall_leaves_stays_for_a_while),
    };
    if (argc > 1 && strcmp(argv[1], "falls") == 0)
        return RUN_TESTS(falls);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dirty_units_are_bounded),
        cmocka_unit_test(test_what_stays_for_heaps_goes_with_them),
        cmocka_unit_test(test_units_are_distinct),
        cmocka_unit_test(test_runs_are_whole_and_aligned),
        cmocka_unit_test(test_zeroed_is_true),
        cmocka_unit_test(test_dirty_units_are_taken_first),
        cmocka_unit_test(test_locked_memory),
        cmocka_unit_test(test_empty_segments_are_unmapped),
        cmocka_unit_test(test_a_reader_delays_unmapping_only),
        cmocka_unit_test(test_a_stopped_poller_keeps_nobody_from_reclaiming),
        cmocka_unit_test(test_walk_sees_what_is_there),
        cmocka_unit_test(test_foreign_addresses),
        cmocka_unit_test(test_all_stays_where_use_swings_often),
        cmocka_unit_test(test_a_run_that_comes_to_be_is_found),
    };
    return RUN_TESTS(tests);
}
