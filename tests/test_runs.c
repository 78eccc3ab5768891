/*
 * test_runs.c: the runs that a heap keeps: which come back, how many stay, and where they are after
 * a fork.
 */
#include "testing.h"

#include "fast/heap.h"
#include "global/run.h"
#include "global/segment.h"
#include "plenty.h"
#include "processor.h"
#include "run_in_thread.h"

#include <hakmem.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct runs r;

static void *make(unsigned units)
{
    bool zeroed = false;
    return run_alloc(units * UNIT_SIZE, 16, &zeroed);
}

/* A bound that no look around changes. */
static int set_up(void **state)
{
    (void)state;
    r = (struct runs){.most = 64, .looks = UINT32_MAX};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    runs_drop(&r);
    return r.kept == 0 ? 0 : -1;
}

static void test_a_kept_run_comes_back(void **state)
{
    (void)state;
    void *p = make(3);
    runs_keep(&r, p);
    assert_int_equal(unit_word_kind(registry_word(p)), UNIT_KEPT);
    assert_int_equal(runs_bytes(&r), 3 * UNIT_SIZE);
    assert_ptr_equal(runs_take(&r, 2 * UNIT_SIZE + 1), p);
    assert_int_equal(unit_word_kind(registry_word(p)), UNIT_RUN);
    assert_int_equal(runs_bytes(&r), 0);
    assert_null(runs_take(&r, 3 * UNIT_SIZE));
    run_free(p, true);
}

static void test_little_is_wasted(void **state)
{
    (void)state;
    void *p = make(9);
    runs_keep(&r, p);
    assert_null(runs_take(&r, 10 * UNIT_SIZE));
    assert_null(runs_take(&r, 7 * UNIT_SIZE));
    assert_ptr_equal(runs_take(&r, 8 * UNIT_SIZE), p);
    run_free(p, true);
}

static void test_the_oldest_goes_first(void **state)
{
    (void)state;
    void *p[RUNS_MOST + 1];
    for (unsigned i = 0; i <= RUNS_MOST; i++)
        p[i] = make(2);
    for (unsigned i = 0; i <= RUNS_MOST; i++)
        runs_keep(&r, p[i]);
    assert_int_equal(registry_word(p[0]), UNIT_FREE);
    for (unsigned i = 1; i <= RUNS_MOST; i++)
        assert_int_equal(unit_word_kind(registry_word(p[i])), UNIT_KEPT);
    runs_drop_one(&r);
    assert_int_equal(registry_word(p[1]), UNIT_FREE);
    assert_int_equal(r.kept, 2 * (RUNS_MOST - 1));
}

static void test_units_are_bounded(void **state)
{
    (void)state;
    r.most = 10;
    void *large = make(11);
    runs_keep(&r, large);
    assert_int_equal(registry_word(large), UNIT_FREE);
    void *p[5];
    for (unsigned i = 0; i < 5; i++)
        p[i] = make(4);
    for (unsigned i = 0; i < 5; i++) {
        runs_keep(&r, p[i]);
        assert_in_range(r.kept, 4, 10);
    }
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(unit_word_kind(registry_word(p[i])), i < 3 ? UNIT_FREE : UNIT_KEPT);
}

/* As if that were the last of many in a row. */
static void look_and_keep(struct runs *runs, void *p)
{
    runs->looks = 0;
    runs->looked = processor_clock();
    runs_keep(runs, p);
}

static void test_the_bound_is_a_part_of_what_is_in_use(void **state)
{
    (void)state;
    enum { RUNS = 40, UNITS = 8, PURGE_LIMIT = 128 };
    void *p[RUNS];
    for (int i = 0; i < RUNS; i++)
        p[i] = make(UNITS);
    look_and_keep(&r, p[0]);
    assert_in_range(r.most, RUNS * UNITS / 8, RUNS * UNITS / 8 + 4);
    segment_count_heaps(4);
    look_and_keep(&r, p[1]);
    assert_int_equal(r.most, PURGE_LIMIT / 4);
    segment_count_heaps(64 - 5);
    look_and_keep(&r, p[2]);
    assert_int_equal(r.most, PURGE_LIMIT * 2 / 64);
    segment_set_purge_limit(16);
    segment_count_heaps(5 - 64);
    look_and_keep(&r, p[3]);
    assert_in_range(r.most, RUNS * UNITS / 8 / 5, RUNS * UNITS / 8 / 4 + 4);
    segment_count_heaps(-4);
    segment_set_purge_limit(0);
    look_and_keep(&r, p[4]);
    assert_int_equal(registry_word(p[4]), UNIT_FREE);
    segment_set_purge_limit(PURGE_LIMIT);
    for (int i = 5; i < RUNS; i++)
        run_free(p[i], true);
}

static struct runs others[10];

static uint32_t most_of(struct runs *runs)
{
    look_and_keep(runs, make(1));
    return runs->most;
}

/* What heaps may keep however little is in use, they share: who has nothing left gives its part
 * back. */
static void test_all_together_are_bounded(void **state)
{
    (void)state;
    enum { PURGE_LIMIT = 128, SHARE = PURGE_LIMIT / 4, SHARES = 2 * PURGE_LIMIT / SHARE };
    for (unsigned i = 0; i < SHARES; i++)
        assert_int_equal(most_of(&others[i]), SHARE);
    assert_in_range(most_of(&others[SHARES]), 0, SHARE / 2);
    runs_drop(&others[0]);
    assert_int_equal(most_of(&others[SHARES]), SHARE);
    runs_only_user(NULL);
    runs_adopt(&others[1]);
    assert_int_equal(most_of(&others[SHARES + 1]), SHARE);
    for (unsigned i = 0; i < 10; i++)
        runs_drop(&others[i]);
    runs_only_user(NULL);
}

static uint32_t most_after(unsigned clocks)
{
    void *p = make(1);
    r.looks = 0;
    r.looked = (uint16_t)(processor_clock() - clocks);
    runs_keep(&r, p);
    return r.most;
}

/* Where a thread returns few, they cost next to nothing, and would be held for long. Who returned
 * many may have been off its processor for a while. */
static void test_who_seldom_returns_some_keeps_few(void **state)
{
    (void)state;
    enum { MANY = 32 };
    assert_in_range(most_after(200), 0, MANY / 2);
    assert_int_equal(most_after(0), MANY);
    assert_int_equal(most_after(200), MANY);
    assert_int_equal(most_after((unsigned)-10), MANY); /* a clock may step back */
    while (r.kept < MANY)
        runs_keep(&r, make(1 + r.kept % 4));
    void *large = make(MANY);
    r.looks = 0;
    r.looked -= 2000;
    runs_keep(&r, large);
    assert_in_range(r.kept, 0, r.most);
    assert_in_range(r.most, 0, MANY / 2);
    assert_in_range(most_after(200), 0, MANY / 2);
    runs_drop(&r);
}

static void test_what_nobody_takes_goes(void **state)
{
    (void)state;
    void *p = make(2), *q = make(3);
    runs_keep(&r, p);
    runs_keep(&r, q);
    assert_ptr_equal(runs_take(&r, UNIT_SIZE * 3), q);
    runs_age(&r);
    assert_int_equal(unit_word_kind(registry_word(p)), UNIT_KEPT);
    runs_age(&r);
    assert_int_equal(registry_word(p), UNIT_FREE);
    run_free(q, true);
}

/* By a search that looks at each. */
static unsigned slot_of(unsigned units)
{
    unsigned slot = 0;
    while (slot < RUNS_MOST && r.units[slot] != units)
        slot++;
    return slot;
}

static void test_the_first_slot_of_a_length_is_found(void **state)
{
    (void)state;
    static struct runs none;
    uint32_t random = 1;
    for (int tries = 0; tries < 2000; tries++) {
        for (unsigned i = 0; i < RUNS_MOST; i++) {
            random = random * 1664525 + 1013904223;
            r.units[i] = (uint8_t)((random >> 16) % (tries % 65 + 1));
        }
        for (unsigned units = 0; units <= UNITS_PER_SEGMENT; units++)
            assert_int_equal(runs_slot_of(&r, units), slot_of(units));
    }
    r = none;
}

static void test_one_more_is_kept_if_none_goes_back_for_it(void **state)
{
    (void)state;
    void *p[RUNS_MOST + 1];
    for (unsigned i = 0; i <= RUNS_MOST; i++)
        p[i] = make(3);
    r.most = 7;
    assert_true(runs_keep_one_more(&r, p[0], 3));
    assert_true(runs_keep_one_more(&r, p[1], 3));
    assert_int_equal(unit_word_kind(registry_word(p[1])), UNIT_KEPT);
    assert_false(runs_keep_one_more(&r, p[2], 3));
    assert_int_equal(unit_word_kind(registry_word(p[2])), UNIT_RUN);
    assert_null(runs_take_exact(&r, 2));
    assert_ptr_equal(runs_take_exact(&r, 3), p[0]);
    r.most = 64;
    r.looks = RUNS_MOST;
    runs_keep_one_more(&r, p[0], 3);
    for (unsigned i = 2; i < RUNS_MOST; i++)
        assert_true(runs_keep_one_more(&r, p[i], 3));
    assert_false(runs_keep_one_more(&r, p[RUNS_MOST], 3));
    assert_ptr_equal(runs_take_exact(&r, 3), p[0]);
    r.looks = 0;
    assert_false(runs_keep_one_more(&r, p[0], 3));
    r.looks = UINT32_MAX;
    run_free(p[0], true);
    run_free(p[RUNS_MOST], true);
}

/* A thread vanished between two steps of filling a slot, or of emptying it: its run is taken back,
 * and the others stay. */
static void test_what_was_on_its_way_is_taken_back(void **state)
{
    (void)state;
    void *p[3];
    for (unsigned i = 0; i < 3; i++)
        runs_keep(&r, p[i] = make(2));
    long used = segment_used_bytes();
    registry_set_word(p[1], UNIT_FREE);
    r.kept = r.units[2] = 1; /* as they may be then */
    runs_mend(&r);
    assert_int_equal(r.kept, 4);
    segment_take_back();
    assert_int_equal(used - segment_used_bytes(), 2 * UNIT_SIZE);
    assert_ptr_equal(runs_take(&r, 2 * UNIT_SIZE), p[0]);
    assert_ptr_equal(runs_take(&r, 2 * UNIT_SIZE), p[2]);
    assert_null(runs_take(&r, 2 * UNIT_SIZE));
    run_free(p[0], true);
    run_free(p[2], true);
}

/* Of a heap that did not vanish in a slow path they stay. */
static void test_what_is_kept_is_not_on_its_way(void **state)
{
    (void)state;
    void *p = make(5), *whole = make(UNITS_PER_SEGMENT - 5);
    runs_keep(&r, p);
    runs_keep(&r, whole);
    long used = segment_used_bytes();
    segment_take_back();
    assert_int_equal(segment_used_bytes(), used);
    assert_ptr_equal(runs_take(&r, 5 * UNIT_SIZE), p);
    assert_ptr_equal(runs_take(&r, SEGMENT_SIZE - 5 * UNIT_SIZE), whole);
    run_free(p, true);
    run_free(whole, true);
}

static uint32_t kept_now(void)
{
    return heap_current->runs.kept;
}

enum { BUFFERS = 64, BUFFER = 2 * UNIT_SIZE + 1 };

static void *free_all(void *buffers)
{
    for (int i = 0; i < BUFFERS; i++)
        hak_free(((void **)buffers)[i]);
    return heap_current->runs.kept == 0 ? NULL : buffers;
}

/* The same, who has taken as many before; and the last, though it might go the short way. */
static void *pass_some_and_free_all(void *buffers)
{
    for (int i = 0; i < 20; i++)
        hak_free(hak_malloc(BUFFER));
    void *kept = kept_now() > 0 ? free_all(buffers) : buffers;
    struct heap *h = heap_current;
    h->runs.most = h->runs.looks = h->brief = 10;
    hak_free(((void **)buffers)[BUFFERS]);
    return h->runs.kept == 0 ? kept : buffers;
}

static void test_who_only_frees_keeps_none(void **state)
{
    (void)state;
    void *p[BUFFERS + 1];
    for (int i = 0; i < BUFFERS; i++)
        p[i] = hak_malloc(BUFFER);
    assert_null(run_in_thread(free_all, p));
    for (int i = 0; i <= BUFFERS; i++)
        p[i] = hak_malloc(BUFFER);
    assert_null(run_in_thread(pass_some_and_free_all, p));
}

/* Most go the short way, and some the long one, where what else is due is done. */
static void test_most_buffers_go_the_short_way(void **state)
{
    (void)state;
    enum { PAIRS = 500 };
    void *p = hak_malloc(BUFFER);
    for (int i = 0; i < 20; i++) { /* until it is known to come again */
        hak_free(p);
        p = hak_malloc(BUFFER);
    }
    uint32_t looks = heap_current->refills, brief = 0;
    for (int i = 0; i < PAIRS; i++) {
        uint32_t before = heap_current->brief;
        hak_free(p);
        assert_ptr_equal(hak_malloc(BUFFER), p);
        brief += before - heap_current->brief == 2;
    }
    assert_in_range(brief, PAIRS * 7 / 10, PAIRS);
    assert_in_range(heap_current->refills - looks, PAIRS / 20, PAIRS / 5);
    assert_false(heap_current->busy);
    hak_free(p);
}

static int status_of_freeing(void *p)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        hak_free(p);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void test_what_is_no_start_is_not_freed(void **state)
{
    (void)state;
    char *p = hak_malloc(BUFFER);
    int status = status_of_freeing(p + 16);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_int_equal(status_of_freeing(p), 0);
    hak_free(p);
    status = status_of_freeing(p); /* twice */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_buffers_come_back_and_are_zeroed_for_calloc(void **state)
{
    (void)state;
    void *p[BUFFERS];
    for (int i = 0; i < BUFFERS; i++)
        memset(p[i] = hak_malloc(BUFFER), 0xff, BUFFER);
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < BUFFERS; i++) {
            hak_free(p[i]);
            void *q = hak_malloc(BUFFER);
            assert_true(round == 0 || q == p[i]);
            p[i] = q;
        }
    hak_free(p[0]);
    assert_in_range(kept_now(), 1, 64);
    p[0] = hak_calloc(1, BUFFER);
    for (int i = 0; i < BUFFER; i++)
        assert_int_equal(((char *)p[0])[i], 0);
    void *aligned = hak_aligned_alloc(MIB(1), BUFFER);
    assert_int_equal((uintptr_t)aligned % MIB(1), 0);
    hak_free(aligned);
    for (int i = 0; i < BUFFERS; i++)
        hak_free(p[i]);
    assert_true(kept_now() > 0);
    hak_malloc_trim(0);
    assert_int_equal(kept_now(), 0);
}

/* Once its thread takes other blocks only. */
static void test_what_a_heap_keeps_ages(void **state)
{
    (void)state;
    enum { SMALL = 200000 };
    static void *p[BUFFERS], *small[SMALL];
    for (int i = 0; i < BUFFERS; i++)
        p[i] = hak_malloc(BUFFER);
    for (int i = 0; i < BUFFERS; i++)
        hak_free(p[i]);
    assert_true(kept_now() > 0);
    for (int i = 0; i < SMALL; i++)
        small[i] = hak_malloc(64);
    assert_int_equal(kept_now(), 0);
    for (int i = 0; i < SMALL; i++)
        hak_free(small[i]);
}

static void *end_with_some(void *heap)
{
    void *p[BUFFERS];
    for (int i = 0; i < BUFFERS; i++)
        p[i] = hak_malloc(BUFFER);
    for (int i = 0; i < BUFFERS; i++)
        hak_free(p[i]);
    *(struct heap **)heap = heap_current;
    return kept_now() > 0 ? NULL : heap;
}

static void test_an_ended_thread_keeps_none(void **state)
{
    (void)state;
    struct heap *h;
    void *had_none = run_in_thread(end_with_some, &h);
    assert_null(had_none);
    assert_int_equal(h->runs.kept, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_kept_run_comes_back),
        TEST(test_little_is_wasted),
        TEST(test_the_oldest_goes_first),
        TEST(test_units_are_bounded),
        TEST(test_the_bound_is_a_part_of_what_is_in_use),
        TEST(test_all_together_are_bounded),
        TEST(test_who_seldom_returns_some_keeps_few),
        TEST(test_what_nobody_takes_goes),
        TEST(test_the_first_slot_of_a_length_is_found),
        TEST(test_one_more_is_kept_if_none_goes_back_for_it),
        TEST_WITH_PLENTY(test_most_buffers_go_the_short_way),
        TEST(test_what_is_no_start_is_not_freed),
        TEST(test_what_was_on_its_way_is_taken_back),
        TEST(test_what_is_kept_is_not_on_its_way),
        TEST(test_who_only_frees_keeps_none),
        TEST_WITH_PLENTY(test_buffers_come_back_and_are_zeroed_for_calloc),
        TEST_WITH_PLENTY(test_what_a_heap_keeps_ages),
        TEST_WITH_PLENTY(test_an_ended_thread_keeps_none),
    };
    return RUN_TESTS(tests);
}
