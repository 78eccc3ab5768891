/*
 * test_bins.c: how much bins hold: by demand, by what passes them, by what others hold, and by whether
 * their thread sleeps.
 */
#include "testing.h"

#include "fast/bins.h"
#include "run_in_thread.h"

#include <hakmem.h>
#include <unistd.h>

static bool owns_slabs(struct heap *h, unsigned class_no)
{
    return !TAILQ_EMPTY(&h->owned.partial[class_no]) || !TAILQ_EMPTY(&h->owned.full[class_no]);
}

/* More than CLOCKS_LONG of bins.c, where the processor's counter is slow, too. */
#define LONG_US 900000

/* Of a class of 1 KiB, whose bins hold 96 blocks at first: runs over and out by turns, then over
 * only. It is in demand for a while yet. */
static void test_bins_follow_the_use(void **state)
{
    (void)state;
    enum { COUNT = 500, MORE = 2500 };
    static void *p[MORE];
    const unsigned class_no = size_to_class(1024);
    const int32_t limit = 96;
    void *first = hak_malloc(1024);
    const struct bin *bin = &heap_current->bin[class_no];
    for (int round = 0; round < 20; round++) {
        int count = round < 10 ? COUNT : MORE;
        heap_current->pace = HEAP_AWAKE;
        for (int i = 0; i < count; i++)
            p[i] = hak_malloc(1024);
        for (int i = 0; i < count; i++)
            hak_free(p[i]);
    }
    assert_in_range(bin->limit, MORE, MORE + MORE / 8);
    assert_int_equal(heap_current->grown, (size_t)(bin->limit - limit) * 1024);
    for (int i = 0; i < 40; i++) {
        int32_t before = bin->limit;
        bins_ran_over(heap_current, class_no);
        assert_true(bin->limit == before || bin->limit == before / 2);
    }
    assert_in_range(bin->limit, 64, 128); /* so few are few enough, while it is in demand */
    assert_true(bin->room < -200);
    int32_t held = bin->limit - bin->room;
    hak_free(first); /* the bin has shrunk below what it has: some goes back at each free */
    assert_in_range(held - (bin->limit - bin->room), 1, 64);
    assert_true(owns_slabs(heap_current, class_no));
    usleep(LONG_US);
    atomic_store(&heap_current->now, processor_clock()); /* as a flush does */
    bins_ran_over(heap_current, class_no);
    assert_int_equal(bin->limit, 0);
    assert_null(bin->head);
    assert_int_equal(heap_current->grown, 0);
    const struct owned *owned = &heap_current->owned;
    assert_true((owned->deposits >> class_no & 1) != 0);
    assert_false(owns_slabs(heap_current, class_no));
    for (int i = 0; !bins_in_demand(heap_current, class_no); i++) {
        assert_in_range(i, 0, DEMAND_MOST);
        bins_ran_out(heap_current, class_no);
    }
    assert_int_equal(bin->limit, limit);
    assert_true((owned->deposits >> class_no & 1) == 0);
}

/* As much as has passed it fits in the next time, if that is the work of one turn. Not where so much
 * is in use that it would only scatter, unless blocks are not that small. */
static void test_bins_grow_at_once(void **state)
{
    (void)state;
    enum { COUNT = 3000, BYTES = 256 };
    static void *p[COUNT];
    struct heap *h = heap_current;
    const unsigned class_no = size_to_class(BYTES), next = class_no + 1;
    const struct bin *bin = &h->bin[class_no];
    hak_malloc_trim(0);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < COUNT; i++)
            p[i] = hak_malloc(BYTES);
        for (int i = 0; i < COUNT; i++)
            hak_free(p[i]);
    }
    assert_in_range(bin->limit, COUNT, COUNT + COUNT / 4);
    h->owned.part = MIB(4) + 1;
    bins_ran_out(h, class_no);
    assert_int_equal(bin->limit, KIB(96) / BYTES);
    bins_ran_over(h, class_no);
    h->passed[class_no] = COUNT;
    bins_ran_out(h, class_no);
    assert_int_equal(bin->limit, KIB(96) / BYTES);
    h->demand[next] = DEMAND_MOST;
    h->ran_out[next] = h->now;
    bins_ran_over(h, next);
    h->passed[next] = COUNT;
    bins_ran_out(h, next);
    assert_in_range(h->bin[next].limit, COUNT, COUNT + COUNT / 4);
    h->owned.part = MIB(4);
    bins_ran_over(h, class_no);
    h->passed[class_no] = COUNT;
    bins_ran_out(h, class_no);
    assert_in_range(bin->limit, COUNT, COUNT + COUNT / 4);
    assert_int_equal(h->passed[class_no], 0);
}

static void use_in_turns(size_t bytes)
{
    enum { COUNT = 80, ROUNDS = 12 };
    void *p[COUNT];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            p[i] = hak_malloc(bytes);
        for (int i = 0; i < COUNT; i++)
            hak_free(p[i]);
    }
}

static void be_awake(struct heap *h)
{
    atomic_store(&h->now, processor_clock());
    h->pace = HEAP_AWAKE;
}

/* As if it had run over, and out, after more than fits. */
static void grow(struct heap *h, unsigned class_no)
{
    h->demand[class_no] = DEMAND_MOST;
    h->ran_out[class_no] = h->now;
    h->ran_over[class_no] = 1;
    h->passed[class_no] = 1000000;
    bins_ran_out(h, class_no);
}

static void grow_all(struct heap *h)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        grow(h, i);
}

/* A thread that begins may be about to sleep. One that is awake has a share of a bound for all, or as
 * much as it has in use; no bin of large blocks takes all of that. */
static void test_all_bins_together_are_bounded(void **state)
{
    (void)state;
    struct heap *h = heap_current;
    hak_malloc_trim(0);
    h->pace = HEAP_YOUNG;
    h->awake = 0;
    for (size_t bytes = KIB(4); bytes <= KIB(64); bytes *= 2)
        use_in_turns(bytes);
    assert_in_range(h->grown, MIB(2), MIB(4));
    h->pace = HEAP_YOUNG;
    h->owned.part = 0;
    grow_all(h);
    assert_in_range(h->grown, MIB(3), MIB(4));
    be_awake(h);
    h->owned.part = 0;
    grow_all(h);
    assert_in_range(h->grown, MIB(15), MIB(16));
    hak_malloc_trim(0);
    grow(h, size_to_class(KIB(2)));
    assert_in_range(h->grown, MIB(15), MIB(16));
    hak_malloc_trim(0);
    for (size_t bytes = KIB(4); bytes <= KIB(64); bytes *= 2) {
        grow(h, size_to_class(bytes));
        assert_in_range(h->grown, MIB(2) - bytes, MIB(2));
        hak_malloc_trim(0);
    }
    segment_count_heaps(11);
    grow_all(h);
    assert_in_range(h->grown, MIB(4), MIB(64) / 11);
    h->owned.part = MIB(12);
    grow_all(h);
    assert_in_range(h->grown, MIB(11), MIB(12));
    h->owned.part = MIB(17); /* so much that blocks in bins would pin most of it */
    grow_all(h);
    assert_in_range(h->grown, MIB(2), MIB(4));
    segment_count_heaps(-11);
    hak_malloc_trim(0);
    assert_int_equal(h->grown, 0);
}

/* It comes to a slow path after so many clocks. */
static void come_after(struct heap *h, unsigned clocks)
{
    atomic_store(&h->now, (uint16_t)(processor_clock() - clocks));
    bins_begin_refill(h);
}

/* What is in its bins is out of others' reach while it sleeps again. */
static void test_who_sleeps_has_small_bins(void **state)
{
    (void)state;
    enum { COUNT = 4000, MORE = COUNT + 200 };
    static void *p[MORE];
    const unsigned class_no = size_to_class(1024);
    struct heap *h = heap_current;
    const struct bin *bin = &h->bin[class_no];
    be_awake(h);
    for (int round = 0; round < 4; round++) {
        if (round == 3) {
            come_after(h, 2000);
            assert_in_range(bin->limit, 1, 24);
        }
        int count = round == 3 ? MORE : COUNT; /* it runs out then */
        for (int i = 0; i < count; i++)
            p[i] = hak_malloc(1024);
        for (int i = 0; i < count; i++)
            hak_free(p[i]);
        assert_int_equal(h->pace, round == 3 ? HEAP_SLEEPER : HEAP_AWAKE);
        assert_true(round == 0 || (round == 3 ? bin->limit <= 24 : bin->limit >= COUNT));
    }
    assert_in_range(bin->limit - bin->room, 0, 24);
    for (int steps = 0; h->pace != HEAP_AWAKE; steps++) {
        assert_in_range(steps, 0, 8);
        come_after(h, 900); /* it may have slept for the most of that */
        assert_true(steps > 4 || h->pace == HEAP_SLEEPER);
    }
}

/* A clock that steps back is no sleep. */
static void test_a_clock_may_step_back(void **state)
{
    (void)state;
    struct heap *h = heap_current;
    be_awake(h);
    atomic_store(&h->now, (uint16_t)(processor_clock() + 100));
    bins_begin_refill(h);
    assert_int_equal(h->pace, HEAP_AWAKE);
}

static void *grow_and_end(void *unused)
{
    hak_free(hak_malloc(100));
    struct heap *h = heap_current;
    be_awake(h);
    h->owned.part = MIB(8);
    grow_all(h);
    assert_true(h->grown > MIB(4));
    (void)unused;
    return h;
}

static void *begin(void *unused)
{
    hak_free(hak_malloc(100));
    assert_int_equal(heap_current->grown, 0);
    (void)unused;
    return heap_current;
}

/* What one thread's use had swung by says nothing of the next one's. */
static void test_who_takes_a_heap_over_begins_with_first_bounds(void **state)
{
    (void)state;
    void *left = run_in_thread(grow_and_end, NULL);
    void *taken = run_in_thread(begin, NULL);
    assert_ptr_equal(left, taken);
}

static size_t held_in_bin(const struct heap *h, unsigned class_no)
{
    return (size_t)(h->bin[class_no].limit - h->bin[class_no].room) * size_class_bytes[class_no];
}

/* While its thread takes new memory for another class. */
static void test_a_grown_bin_that_is_not_used_shrinks(void **state)
{
    (void)state;
    enum { COUNT = 4000, OTHERS = 12000 };
    static void *p[OTHERS];
    const unsigned class_no = size_to_class(1024);
    struct heap *h = heap_current;
    hak_malloc_trim(0);
    be_awake(h);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            p[i] = hak_malloc(1024);
        for (int i = 0; i < COUNT; i++)
            hak_free(p[i]);
    }
    assert_true(held_in_bin(h, class_no) > COUNT / 2 * 1024);
    segment_purge(0); /* what comes now is fresh */
    for (int i = 0; i < OTHERS; i++)
        p[i] = hak_malloc(2000);
    assert_in_range(held_in_bin(h, class_no), 0, KIB(96));
    for (int i = 0; i < OTHERS; i++)
        hak_free(p[i]);
    hak_malloc_trim(0);
}

/* One that was halved a moment ago holds more than its bound: it has a bound still when it has
 * cooled. */
static void test_what_cools_keeps_a_bound(void **state)
{
    (void)state;
    enum { COUNT = 8129, BOUND = 4096 };
    struct heap *h = heap_current;
    const unsigned class_no = size_to_class(16);
    struct bin *bin = &h->bin[class_no];
    static void *p[COUNT];
    hak_malloc_trim(0);
    for (int i = 0; i < COUNT; i++)
        p[i] = hak_malloc(16);
    void *last = hak_malloc(16);
    assert_true(bins_in_demand(h, class_no));
    bin->room += 2 * BOUND - bin->limit;
    bin->limit = 2 * BOUND;
    bins_recount(h);
    for (int i = 0; i < COUNT; i++)
        hak_free(p[i]);
    assert_int_equal(bin->limit, 2 * BOUND);
    for (int i = 0; bin->limit == 2 * BOUND; i++) {
        assert_in_range(i, 0, 16);
        bins_ran_over(h, class_no);
    }
    assert_int_equal(bin->limit, BOUND);
    usleep(LONG_US);
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        bins_begin_refill(h);
    assert_true(bin->limit > 0);
    assert_true(bin->room < 0 && bins_in_demand(h, class_no));
    hak_free(last);
}

/* Of a class of 1 KiB, of which small bins hold 8 blocks. */
static void test_a_class_is_in_demand_if_it_runs_out_quickly(void **state)
{
    (void)state;
    enum { COUNT = 100, FEW = 12 };
    static void *p[COUNT];
    const unsigned class_no = size_to_class(1000);
    struct heap *h = heap_current;
    hak_malloc_trim(0);
    for (int i = 0; i < FEW; i++, usleep(600))
        p[i] = hak_malloc(1000);
    h->pace = HEAP_YOUNG;
    assert_false(bins_in_demand(h, class_no));
    assert_int_equal(h->bin[class_no].limit, 8);
    assert_false(owns_slabs(h, class_no));
    for (int i = 0; i < 10; i++)
        hak_free(p[i]);
    assert_in_range(h->bin[class_no].room, 0, 1); /* it ran over, and gave back two */
    for (int i = 0; i < COUNT; i++)
        p[i] = i < 10 || i >= FEW ? hak_malloc(1000) : p[i];
    assert_true(bins_in_demand(h, class_no));
    assert_int_equal(h->bin[class_no].limit, 96);
    assert_true(owns_slabs(h, class_no));
    usleep(LONG_US);
    for (int i = 0; i < COUNT; i++)
        hak_free(p[i]);
    for (int i = 0; i < 1000 && bins_in_demand(h, class_no); i++)
        hak_malloc(1000);
    assert_false(bins_in_demand(h, class_no));
    assert_int_equal(h->bin[class_no].limit, 8);
    assert_false(owns_slabs(h, class_no));
}

/* Though its bin does not run out: others' do. */
static void test_a_class_that_nobody_wants_cools(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    static void *p[COUNT];
    const unsigned class_no = size_to_class(300);
    struct heap *h = heap_current;
    be_awake(h);
    for (int i = 0; i < COUNT; i++)
        p[i] = hak_malloc(300);
    for (int i = 0; i < COUNT; i++)
        hak_free(p[i]);
    const struct bin *bin = &h->bin[class_no];
    assert_true(bins_in_demand(h, class_no) && bin->limit - bin->room > 200);
    for (unsigned i = 0; i < 2 * SIZE_CLASS_COUNT; i++)
        bins_begin_refill(h);
    assert_true(bins_in_demand(h, class_no)); /* it ran out just now */
    usleep(LONG_US);
    for (int i = 0; i < 5000 && bins_in_demand(h, class_no); i++)
        hak_malloc(5000);
    assert_false(bins_in_demand(h, class_no));
    assert_int_equal(bin->limit, KIB(8) / 320);
    assert_in_range(bin->room, 0, KIB(8) / 320);
    assert_false(owns_slabs(h, class_no));
}

/* The blocks in the bins of a heap that another thread had are of use at once: none of them runs
 * out. */
static void *fill_bin(void *unused)
{
    void *p[300];
    for (int i = 0; i < 300; i++)
        p[i] = hak_malloc(200);
    for (int i = 0; i < 300; i++)
        hak_free(p[i]);
    return unused;
}

static void *take_from_bin(void *unused)
{
    hak_free(hak_malloc(200));
    const struct bin *bin = &heap_current->bin[size_to_class(200)];
    return bin->head != NULL && bin->room >= 0 && bin->limit > 100 ? (void *)bin : unused;
}

static void test_a_parked_bin_has_not_run_out(void **state)
{
    (void)state;
    hak_malloc_trim(0);
    run_in_thread(fill_bin, NULL);
    usleep(LONG_US);
    assert_non_null(run_in_thread(take_from_bin, NULL));
}

static void test_bins_are_bounded(void **state)
{
    (void)state;
    enum { COUNT = 30000 };
    static void *p[COUNT];
    for (size_t n = 16; n <= 1024; n *= 4) {
        for (int i = 0; i < COUNT; i++)
            p[i] = hak_malloc(n);
        for (int i = 0; i < COUNT; i++) {
            hak_free(p[i]);
            const struct bin *bin = &heap_current->bin[size_to_class(n)];
            assert_true(bin->room >= -bin->limit && bin->room <= bin->limit);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bins_follow_the_use),
        cmocka_unit_test(test_bins_grow_at_once),
        cmocka_unit_test(test_all_bins_together_are_bounded),
        cmocka_unit_test(test_who_sleeps_has_small_bins),
        cmocka_unit_test(test_a_clock_may_step_back),
        cmocka_unit_test(test_who_takes_a_heap_over_begins_with_first_bounds),
        cmocka_unit_test(test_a_grown_bin_that_is_not_used_shrinks),
        cmocka_unit_test(test_what_cools_keeps_a_bound),
        cmocka_unit_test(test_a_class_is_in_demand_if_it_runs_out_quickly),
        cmocka_unit_test(test_a_class_that_nobody_wants_cools),
        cmocka_unit_test(test_a_parked_bin_has_not_run_out),
        cmocka_unit_test(test_bins_are_bounded),
    };
    return RUN_TESTS(tests);
}
