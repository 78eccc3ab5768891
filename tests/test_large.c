/*
 * test_large.c: runs and whales: reuse, the bounded cache, growth by page tables, the registry
 * entry.
 */
#include "testing.h"
#include "rss.h"

#include "global/os.h"
#include "global/registry.h"
#include "global/run.h"
#include "global/segment.h"
#include "global/touched.h"
#include "global/whale.h"

#include <hakmem.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static void test_runs(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p[64];
    for (size_t i = 0; i < 64; i++) {
        p[i] = run_alloc(KIB(33) + i * KIB(15), 16, &zeroed);
        assert_int_equal(unit_word_kind(registry_word(p[i])), UNIT_RUN);
        assert_true(run_bytes(p[i]) >= KIB(33) + i * KIB(15));
        memset(p[i], (int)i, run_bytes(p[i]));
    }
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(p[i][0], i);
        assert_int_equal(p[i][run_bytes(p[i]) - 1], i);
        run_free(p[i], true);
        assert_int_not_equal(unit_word_kind(registry_word(p[i])), UNIT_RUN);
    }
}

static void test_runs_resize_in_place(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p = run_alloc(MIB(1), MIB(1), &zeroed);
    assert_true(run_resize(p, KIB(100)));
    assert_int_equal(run_bytes(p), KIB(128));
    assert_true(run_resize(p, KIB(600)));
    assert_int_equal(run_bytes(p), KIB(640));
    char *next = run_alloc(KIB(64), 16, &zeroed);
    run_free(next, true);
    run_free(p, true);
    char *all = run_alloc(MIB(4), MIB(4), &zeroed);
    assert_int_equal(run_bytes(all), MIB(4));
    assert_false(run_resize(all, MIB(4) + 1)); /* its segment ends */
    assert_true(run_resize(all, MIB(3)));
    assert_true(run_resize(all, MIB(4)));
    assert_int_equal(run_bytes(all), MIB(4));
    run_free(all, true);
}

static uintptr_t word_of_realloc(size_t from, size_t to)
{
    void *p = hak_realloc(hak_malloc(from), to);
    uintptr_t word = unit_word_kind(registry_word(p));
    hak_free(p);
    return word;
}

/* To 4 MiB, but only to 1 MiB what has grown, and moved. */
static void test_which_blocks_are_runs(void **state)
{
    (void)state;
    void *run = hak_malloc(MIB(4)), *whale = hak_malloc(MIB(4) + 1);
    assert_int_equal(unit_word_kind(registry_word(run)), UNIT_RUN);
    assert_int_equal(registry_word(whale), UNIT_WHALE);
    hak_free(run);
    hak_free(whale);
    whale_drop_cache(); /* or there is one to grow in */
    assert_int_equal(word_of_realloc(1000, MIB(1)), UNIT_RUN);
    assert_int_equal(word_of_realloc(1000, MIB(1) + 1), UNIT_WHALE);
    assert_int_equal(word_of_realloc(MIB(8), MIB(2)), UNIT_WHALE);
    assert_int_equal(word_of_realloc(MIB(8), MIB(1)), UNIT_RUN);
    whale_drop_cache();
}

/* One byte in `step`. */
static void *touch_each(void *p, size_t bytes, size_t step)
{
    for (size_t at = 0; at < bytes; at += step)
        ((volatile char *)p)[at] = 1;
    return p;
}

/* Of each the first `touched` bytes are written to, or of them one in `step`. The next one's word. */
static uintptr_t word_after(int count, size_t bytes, size_t touched, size_t step)
{
    for (int i = 0; i < count; i++)
        hak_free(touch_each(hak_malloc(bytes), touched, step));
    void *p = hak_malloc(bytes);
    uintptr_t word = unit_word_kind(registry_word(p));
    hak_free(p);
    return word;
}

/* And only where they are mostly written to. Others come and go as whales, so that it is seen when
 * they are, at once. */
static void test_what_is_hardly_touched_is_no_run(void **state)
{
    (void)state;
    char *first = hak_malloc(MIB(4)); /* what others wrote to before is not there */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    assert_int_equal(segment_purge(0), true);
    assert_int_equal(word_after(160, MIB(2), KIB(100), KIB(1)), UNIT_WHALE);
    assert_false(touched_mostly());
    assert_int_equal(word_after(1, MIB(1), KIB(100), KIB(1)), UNIT_RUN);
    assert_int_equal(word_after(160, MIB(2), KIB(100), KIB(1)), UNIT_WHALE);
    assert_int_equal(word_after(128, MIB(2), MIB(2), UNIT_SIZE), UNIT_RUN);
    assert_true(touched_mostly());
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    hak_free(first);
    whale_drop_cache();
}

static void test_whales_are_registered(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p = whale_alloc(MIB(3), 16, &zeroed);
    assert_true(zeroed);
    assert_int_equal(registry_word(p), UNIT_WHALE);
    assert_int_equal(registry_word(p + UNIT_SIZE), UNIT_FOREIGN);
    assert_int_equal(whale_bytes(p), MIB(3));
    whale_set_cache_limit(0);
    whale_free(p, true);
    assert_int_equal(registry_word(p), UNIT_FOREIGN);
    assert_null(registry_region(p));
    whale_set_cache_limit(MIB(8));
}

/* A byte a page: all of them take ThreadSanitizer seconds, and the cache goes by the clock, too. */
static void *touch(void *p, size_t bytes)
{
    return touch_each(p, bytes, 4096);
}

enum { BOUNDED = 40 };

static void take_and_free(char **p, bool comes_again)
{
    bool zeroed = false;
    for (int i = 0; i < BOUNDED; i++)
        touch(p[i] = whale_alloc(MIB(2), 16, &zeroed), MIB(2));
    for (int i = 0; i < BOUNDED; i++)
        whale_free(p[i], comes_again);
}

/* In a process of its own, where nothing has swung: the first fall of who comes again leaves five
 * times the limit more, for a while. */
static void test_what_a_fall_leaves_is_cached(void **state)
{
    (void)state;
    char *p[BOUNDED];
    whale_set_cache_limit(MIB(8));
    take_and_free(p, true);
    assert_int_equal(whale_cached_bytes(), MIB(48));
}

/* The first of all tests: what use swings by counts. */
static void test_the_cache_is_bounded(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p[BOUNDED];
    whale_set_cache_limit(MIB(8));
    for (int i = 0; i < BOUNDED; i++)
        touch(p[i] = whale_alloc(MIB(2), 16, &zeroed), MIB(2));
    for (size_t i = 0; i < BOUNDED; i++) { /* 8 MiB, and half of what is in use */
        whale_free(p[i], false);
        assert_true(whale_cached_bytes() <= MIB(8) + (BOUNDED - 1 - i) * MIB(2) / 2);
    }
    assert_int_equal(whale_cached_bytes(), MIB(8));
    take_and_free(p, false); /* it has swung by 80 MiB now: five times the limit more */
    assert_int_equal(whale_cached_bytes(), MIB(48));
    char *large = whale_alloc(MIB(60), 16, &zeroed); /* none is near that: the cache stays */
    assert_true(zeroed);
    touch(large, MIB(60));
    whale_free(large, true); /* more than the bound by itself */
    assert_int_equal(whale_cached_bytes(), MIB(48));
    whale_drop_cache();
    whale_free(whale_alloc(MIB(2), 16, &zeroed), true);
    assert_int_equal(whale_cached_bytes(), MIB(2));
    assert_true(whale_drop_cache());
    assert_int_equal(whale_cached_bytes(), 0);
    assert_false(whale_drop_cache());
}

enum { SPARSE = 10, ROUNDS = 10 };

static void free_sparse(int count)
{
    bool zeroed = false;
    char *p[SPARSE];
    for (int i = 0; i < count; i++)
        touch(p[i] = whale_alloc(MIB(4), 16, &zeroed), KIB(400));
    for (int i = 0; i < count; i++)
        whale_free(p[i], false); /* or it would swing often, and all would be kept */
}

/* What was never written to holds no memory, and is kept beyond the bound (of 12 MiB here), as soon
 * as it has been seen that programs write to little of them. A dense one of 60 MiB is not taken for
 * one of them: not only when it happens to be the one of which the system is asked. */
static void test_sparse_whales_are_kept(void **state)
{
    (void)state;
    bool zeroed = false;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* or 400 KiB are 2 MiB */
    whale_drop_cache();
    whale_set_cache_limit(MIB(2));
    for (int more = 0; more < 3; more++) {
        for (int round = 0; round < ROUNDS; round++)
            free_sparse(SPARSE);
        free_sparse(more);
        assert_int_equal(whale_cached_bytes(), SPARSE * MIB(4));
        char *dense = whale_alloc(MIB(60), 16, &zeroed);
        touch(dense, MIB(60));
        whale_free(dense, false);
        assert_in_range(whale_cached_bytes(), 0, SPARSE * MIB(4));
    }
    whale_drop_cache();
    whale_set_cache_limit(MIB(8));
}

/* The nearest one; longer by more than half of what is asked for only where that may be lent, else
 * it is cut; and none that is more than twice as long. */
static void test_the_nearest_is_taken(void **state)
{
    (void)state;
    static const size_t sizes[] = {MIB(12), MIB(7), MIB(10)};
    char *p[3];
    bool zeroed = false;
    for (unsigned i = 0; i < 3; i++)
        p[i] = whale_alloc(sizes[i], 16, &zeroed);
    for (unsigned i = 0; i < 3; i++)
        whale_free(p[i], true);
    char *q = whale_alloc(MIB(6) - KIB(100), 16, &zeroed);
    assert_ptr_equal(q, p[1]);
    char *lent = whale_alloc(MIB(6), 16, &zeroed);
    assert_ptr_equal(lent, p[2]);
    assert_int_equal(region_size(registry_region(lent)), MIB(10));
    whale_free(lent, true);
    whale_set_cache_limit(KIB(256)); /* and a quarter of 17 MiB may be lent: not 5 */
    char *cut = whale_alloc(MIB(5), 16, &zeroed);
    assert_ptr_equal(cut, p[2]);
    assert_int_equal(region_size(registry_region(cut)), MIB(5));
    whale_free(whale_alloc(MIB(6) - KIB(512), 16, &zeroed), true);
    assert_true(zeroed);
    whale_set_cache_limit(MIB(8));
    whale_free(cut, true);
    whale_free(q, true);
    whale_drop_cache();
}

static void expect_mapped(size_t bytes, size_t mapped)
{
    bool zeroed = false;
    char *p = whale_alloc(bytes, 16, &zeroed);
    assert_true(zeroed);
    assert_int_equal(whale_bytes(p), bytes);
    assert_int_equal(region_size(registry_region(p)), mapped);
    whale_free(p, true);
    whale_drop_cache();
}

/* Small pages at the end cost more than what is mapped too much, if that is a sixteenth at most. */
static void test_whales_end_with_a_huge_page(void **state)
{
    (void)state;
    expect_mapped(MIB(32) - KIB(1100), MIB(32));
    expect_mapped(MIB(34) - KIB(2044), MIB(34));
    expect_mapped(MIB(5), MIB(5));
    expect_mapped(MIB(6) - KIB(400), MIB(6) - KIB(384));
}

#define LONGEST_ROW 100

/* More than used to fit in: as many as a program had that frees all it has. */
static void test_many_whales_are_cached(void **state)
{
    (void)state;
    char *p[LONGEST_ROW];
    bool zeroed = false;
    whale_set_cache_limit(MIB(1024));
    for (unsigned i = 0; i < LONGEST_ROW; i++)
        p[i] = whale_alloc(MIB(5), 16, &zeroed);
    for (unsigned i = 0; i < LONGEST_ROW; i++)
        whale_free(p[i], true);
    assert_int_equal(whale_cached_bytes(), LONGEST_ROW * MIB(5));
    for (unsigned i = 0; i < LONGEST_ROW; i++) {
        p[i] = whale_alloc(MIB(5), 16, &zeroed);
        assert_false(zeroed);
    }
    for (unsigned i = 0; i < LONGEST_ROW; i++)
        whale_free(p[i], true);
    whale_drop_cache();
    whale_set_cache_limit(MIB(8));
}

/* Long enough, or nearly so, and made longer. */
static void test_cached_whales_are_reused(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p = whale_alloc(MIB(4), 16, &zeroed);
    p[0] = 1;
    whale_free(p, true);
    assert_int_equal(registry_word(p), UNIT_FREE);
    assert_ptr_equal(whale_alloc(MIB(4) - KIB(200), 16, &zeroed), p);
    assert_false(zeroed);
    assert_int_equal(registry_word(p), UNIT_WHALE);
    assert_int_equal(whale_bytes(p), MIB(4) - KIB(200));
    assert_ptr_equal(whale_resize(p, MIB(4)), p);
    assert_int_equal(whale_bytes(p), MIB(4));
    whale_free(p, true);
    char *longer = whale_alloc(MIB(6), 16, &zeroed);
    assert_false(zeroed);
    assert_int_equal(longer[0], 1);
    assert_int_equal(whale_bytes(longer), MIB(6));
    assert_int_equal(whale_cached_bytes(), 0);
    whale_free(longer, true);
    char *shorter = whale_alloc(KIB(3500), 16, &zeroed);
    assert_ptr_equal(shorter, longer);
    assert_int_equal(whale_bytes(shorter), KIB(3500));
    whale_free(shorter, true);
    char *aligned = whale_alloc(MIB(4), MIB(64), &zeroed);
    assert_int_equal((uintptr_t)aligned % MIB(64), 0);
    whale_free(aligned, true);
    whale_drop_cache();
}

static void test_whales_grow_where_they_are_or_move(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p = whale_alloc(MIB(2), 16, &zeroed);
    int moved = 0;
    for (size_t n = MIB(2); n < MIB(80); n += MIB(2)) {
        p[0] = p[n - 1] = (char)(n >> 20);
        void *fence = MAP_FAILED; /* every other time there is no room behind it */
        if (n % MIB(4) == 0)
            fence = mmap(p + n, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                         -1, 0);
        char *q = whale_resize(p, n + MIB(2));
        assert_non_null(q);
        assert_int_equal(q[0], (char)(n >> 20));
        assert_int_equal(q[n - 1], (char)(n >> 20));
        assert_int_equal(registry_word(q), UNIT_WHALE);
        assert_int_equal(whale_bytes(q), n + MIB(2));
        if (q != p && registry_word(p) == UNIT_WHALE)
            fail_msg("the old place is registered still");
        moved += q != p;
        p = q;
        if (fence != MAP_FAILED)
            munmap(fence, 4096);
    }
    assert_true(moved >= 10);
    p = whale_resize(p, MIB(2));
    assert_int_equal(whale_bytes(p), MIB(2));
    p = whale_resize(p, MIB(2) - KIB(32)); /* is not worth a call */
    assert_int_equal(whale_bytes(p), MIB(2));
    p = whale_resize(p, MIB(2) - KIB(64)); /* nor that, in a huge page */
    assert_int_equal(whale_bytes(p), MIB(2));
    p = whale_resize(p, MIB(2) - KIB(256));
    assert_int_equal(whale_bytes(p), MIB(2) - KIB(256));
    whale_free(p, true);
    whale_drop_cache();
}

static void cache_two(size_t bytes)
{
    bool zeroed = false;
    char *p = touch(whale_alloc(bytes, 16, &zeroed), bytes);
    char *q = touch(whale_alloc(bytes, 16, &zeroed), bytes);
    whale_free(p, true);
    whale_free(q, true);
    assert_int_equal(whale_cached_bytes(), 2 * bytes);
}

/* What grows is given a cached one with room, three times what it uses at most; of which as much as
 * the cache's limit is out at a time, and a quarter of what is in use, until it is used, or given
 * back. */
static void test_what_grows_is_given_room(void **state)
{
    (void)state;
    whale_set_cache_limit(MIB(6));
    cache_two(MIB(7));
    assert_null(whale_alloc_to_grow(MIB(1))); /* too much room */
    assert_null(whale_alloc_to_grow(MIB(8))); /* none is as long */
    char *p = whale_alloc_to_grow(MIB(2));
    assert_non_null(p);
    assert_int_equal(whale_bytes(p), MIB(2));
    assert_int_equal(region_size(registry_region(p)), MIB(7));
    assert_null(whale_alloc_to_grow(MIB(4))); /* 5 are lent */
    assert_ptr_equal(whale_resize(p, MIB(4)), p);
    assert_int_equal(whale_bytes(p), MIB(4));
    char *q = whale_alloc_to_grow(MIB(4)); /* 3 were lent, and 3 */
    assert_non_null(q);
    assert_int_equal(whale_cached_bytes(), 0);
    assert_ptr_equal(whale_resize(q, MIB(4) - KIB(4)), q); /* it shrinks, and gives all back */
    assert_int_equal(region_size(registry_region(q)), MIB(4));
    whale_free(p, true);
    assert_ptr_equal(whale_alloc_to_grow(MIB(2)), p); /* nothing was lent any more: 5 are */
    whale_free(p, true);
    whale_free(q, true);
    whale_drop_cache();
    whale_set_cache_limit(MIB(8));
}

/* Where the cache has a place with twice the pages, that is better than new pages behind this
 * one. */
static void test_what_grows_is_better_copied(void **state)
{
    (void)state;
    bool zeroed = false;
    char *p = whale_alloc(MIB(2), 16, &zeroed);
    cache_two(MIB(4));
    assert_null(whale_roomier(p, MIB(2))); /* it has that */
    assert_null(whale_roomier(p, MIB(5))); /* none is as long */
    char *q = whale_roomier(p, MIB(3));
    assert_non_null(q);
    assert_int_equal(whale_bytes(q), MIB(3));
    assert_int_equal(region_size(registry_region(q)), MIB(4));
    assert_null(whale_roomier(q, MIB(4) + KIB(4)));
    whale_free(q, true);
    whale_drop_cache();
    whale_free(whale_alloc(MIB(9), 16, &zeroed), true);
    assert_null(whale_roomier(p, MIB(3))); /* it has no pages */
    assert_int_equal(whale_cached_bytes(), MIB(9));
    whale_free(p, true);
    whale_drop_cache();
}

/* Unmapped addresses are used again: each new one costs the registry a page. */
static void test_addresses_do_not_march(void **state)
{
    (void)state;
    bool zeroed = false;
    whale_set_cache_limit(0);
    for (int i = 0; i < 100; i++)
        whale_free(whale_alloc(MIB(64), 16, &zeroed), true);
    long before = rss_kib();
    for (int i = 0; i < 20000; i++)
        whale_free(whale_alloc(MIB(64), 16, &zeroed), true);
    assert_true(rss_kib() < before + 2048);
    whale_set_cache_limit(MIB(8));
}

static void count_segments(struct region *region, void *context)
{
    *(long *)context += region->kind == REGION_SEGMENT;
}

/* Where the low segments have room, but none in a row, runs go on from where the last ones were. */
static void test_runs_beyond_cut_up_segments(void **state)
{
    (void)state;
    enum { CUT = 100 * 64, RUNS = 1000 };
    static char *cut[CUT], *run[RUNS];
    bool zeroed = false;
    long before = 0, after = 0;
    for (int i = 0; i < CUT; i++)
        cut[i] = run_alloc(KIB(64), 16, &zeroed);
    for (int i = 0; i < CUT; i += 2)
        run_free(cut[i], true);
    registry_walk(count_segments, &before);
    for (int i = 0; i < RUNS; i++)
        run[i] = run_alloc(KIB(128), 16, &zeroed);
    registry_walk(count_segments, &after);
    assert_true(after - before <= RUNS * 2 / 64 + 2);
    for (int i = 0; i < RUNS; i++)
        run_free(run[i], true);
    for (int i = 1; i < CUT; i += 2)
        run_free(cut[i], true);
}

static void test_aligned_whales(void **state)
{
    (void)state;
    bool zeroed = false;
    for (size_t alignment = MIB(4); alignment <= MIB(256); alignment *= 2) {
        char *p = whale_alloc(MIB(2), alignment, &zeroed);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % alignment, 0);
        whale_free(p, true);
    }
    whale_drop_cache();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest falls[] = {cmocka_unit_test(test_what_a_fall_leaves_is_cached)};
    if (argc > 1 && strcmp(argv[1], "falls") == 0)
        return RUN_TESTS(falls);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_cache_is_bounded),
        cmocka_unit_test(test_what_grows_is_given_room),
        cmocka_unit_test(test_what_grows_is_better_copied),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_runs_resize_in_place),
        cmocka_unit_test(test_which_blocks_are_runs),
        cmocka_unit_test(test_what_is_hardly_touched_is_no_run),
        cmocka_unit_test(test_whales_are_registered),
        cmocka_unit_test(test_sparse_whales_are_kept),
        cmocka_unit_test(test_the_nearest_is_taken),
        cmocka_unit_test(test_whales_end_with_a_huge_page),
        cmocka_unit_test(test_many_whales_are_cached),
        cmocka_unit_test(test_cached_whales_are_reused),
        cmocka_unit_test(test_whales_grow_where_they_are_or_move),
        cmocka_unit_test(test_addresses_do_not_march),
        cmocka_unit_test(test_runs_beyond_cut_up_segments),
        cmocka_unit_test(test_aligned_whales),
    };
    return RUN_TESTS(tests);
}
