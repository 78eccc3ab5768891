/*
 * test_heap.c: sentinels are never written, heaps are borrowed, parked and dissolved, bins are
 * bounded.
 */
#include "testing.h"

#include "fast/heap.h"

#include <hakmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void test_sentinels_have_nothing_and_own_nothing(void **state)
{
    (void)state;
    for (int k = 0; k < HEAP_SENTINELS; k++) {
        const struct heap *h = heap_sentinel((enum heap_sentinel)k);
        for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
            assert_null(h->bin[i].head);
        const uintptr_t other[] = {UNIT_FOREIGN, UNIT_FREE, UNIT_RUN, UNIT_WHALE};
        for (unsigned i = 0; i < sizeof other / sizeof *other; i++)
            assert_false(heap_keeps(h, other[i]));
        for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) {
            assert_false(heap_keeps(h, unit_word(0, i)));
            assert_false(heap_keeps(h, unit_word(unit_owner(0), i)));
        }
    }
}

static void test_no_owner_is_taken_for_another(void **state)
{
    (void)state;
    const uintptr_t number[] = {0, 1, 2, 3, 0x155555, 0x2aaaaa, UNIT_NUMBERS / 2, UNIT_NUMBERS - 1};
    const size_t count = sizeof number / sizeof *number;
    for (size_t i = 0; i < count * count; i++) {
        uintptr_t mine = unit_owner(number[i % count]), other = unit_owner(number[i / count]);
        for (unsigned k = 0; k < SIZE_CLASS_COUNT; k++) {
            uintptr_t word = unit_word(other, k);
            assert_int_equal(unit_word_is_among(word, unit_strange_bits(mine)), mine == other);
            assert_true(unit_word_is_among(unit_word(0, k), unit_strange_bits(mine)));
            assert_int_equal(unit_word_class(word), k);
            assert_true(unit_word_has_owner(word) && !unit_word_has_owner(unit_word(0, k)));
        }
        assert_false(unit_word_is_among(UNIT_FOREIGN, unit_strange_bits(mine)));
        assert_false(unit_word_is_among(UNIT_FREE, unit_strange_bits(mine)));
        assert_false(unit_word_is_among(UNIT_RUN, unit_strange_bits(mine)));
        assert_false(unit_word_is_among(UNIT_WHALE, unit_strange_bits(mine)));
    }
}

static void test_a_block_far_away_is_kept_and_is_near_then(void **state)
{
    (void)state;
    void *p = hak_malloc(100);
    hak_free(p);
    struct heap *h = heap_current;
    const struct registry_near near = h->near;
    assert_ptr_equal(hak_malloc(100), p);
    registry_go_near(&h->near, (void *)((uintptr_t)p ^ (uintptr_t)1 << LEAF_SHIFT));
    assert_int_not_equal(h->near.base, near.base);
    hak_free(p);
    assert_int_equal(h->near.base, near.base);
    assert_ptr_equal(h->near.leaf, near.leaf);
    assert_ptr_equal(hak_malloc(100), p);
    hak_free(p);
}

static void test_what_has_no_leaf_is_not_near(void **state)
{
    (void)state;
    void *low = (void *)(uintptr_t)4096;
    struct registry_near near = heap_current->near;
    registry_go_near(&near, low);
    assert_int_equal(near.base, REGISTRY_FAR);
    assert_null(registry_near_region(&near, low));
}

static pthread_barrier_t all_here;

static void *look_at_the_near_leaf(void *unused)
{
    (void)unused;
    void *volatile p = hak_malloc(100);
    const struct registry_near *near = &heap_current->near;
    void *wrong = near->base != REGISTRY_FAR && near->leaf == NULL ? p : NULL;
    pthread_barrier_wait(&all_here);
    return wrong;
}

/* Some of so many are new. */
static void test_nothing_is_near_to_a_heap_at_first(void **state)
{
    (void)state;
    enum { THREADS = 16 };
    pthread_t thread[THREADS];
    pthread_barrier_init(&all_here, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, look_at_the_near_leaf, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    pthread_barrier_destroy(&all_here);
}

/* As a handler that interrupts malloc or free would. */
static void test_inside_every_call_works_with_a_borrowed_heap(void **state)
{
    (void)state;
    void *before = hak_malloc(100);
    struct heap *h = heap_enter();
    assert_ptr_equal(heap_current, heap_sentinel(HEAP_INSIDE));
    void *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = hak_malloc(i * 100);
        assert_non_null(p[i]);
        assert_ptr_equal(heap_current, heap_sentinel(HEAP_INSIDE));
    }
    for (size_t i = 0; i < 200; i += 2)
        hak_free(p[i]);
    hak_free(before); /* the interrupted thread's own */
    p[1] = hak_realloc(p[1], 2000000);
    assert_non_null(p[1]);
    assert_ptr_equal(heap_current, heap_sentinel(HEAP_INSIDE));
    heap_leave(h);
    for (size_t i = 1; i < 200; i += 2)
        hak_free(p[i]);
    assert_ptr_equal(heap_current, h);
}

static void *gone(void *argument)
{
    (void)argument;
    struct heap *h = heap_enter();
    heap_leave(heap_sentinel(HEAP_GONE));
    void *p = hak_malloc(500);
    hak_free(p);
    void *ok = heap_current == heap_sentinel(HEAP_GONE) ? p : NULL;
    heap_leave(h);
    return ok;
}

static void test_gone_stays_gone(void **state)
{
    (void)state;
    pthread_t thread;
    void *ok;
    assert_int_equal(pthread_create(&thread, NULL, gone, NULL), 0);
    pthread_join(thread, &ok);
    assert_non_null(ok);
}

static void *which_heap(void *argument)
{
    (void)argument;
    hak_free(hak_malloc(100));
    return heap_current;
}

static void test_a_parked_heap_is_taken_again(void **state)
{
    (void)state;
    pthread_t thread;
    void *first, *second;
    assert_int_equal(pthread_create(&thread, NULL, which_heap, NULL), 0);
    pthread_join(thread, &first);
    assert_int_equal(pthread_create(&thread, NULL, which_heap, NULL), 0);
    pthread_join(thread, &second);
    assert_ptr_equal(first, second);
}

#define LIVE 32

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *hold(void *block)
{
    atomic_store((_Atomic(void *) *)block, hak_malloc(7000));
    pthread_mutex_lock(&gate);
    hak_free(atomic_load((_Atomic(void *) *)block));
    pthread_mutex_unlock(&gate);
    return NULL;
}

/* One after another they allocate, and then all live: nine to a slab. */
static void test_threads_that_live_share_slabs(void **state)
{
    (void)state;
    static pthread_t thread[LIVE];
    static _Atomic(void *) block[LIVE];
    size_t slabs = 0;
    hak_malloc_trim(0);
    pthread_mutex_lock(&gate);
    for (size_t i = 0; i < LIVE; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, hold, &block[i]), 0);
        while (atomic_load(&block[i]) == NULL)
            sched_yield();
        slabs += i == 0 || slab_of(block[i]) != slab_of(block[i - 1]);
    }
    pthread_mutex_unlock(&gate);
    for (size_t i = 0; i < LIVE; i++)
        pthread_join(thread[i], NULL);
    assert_in_range(slabs, 1, 4);
}

#define FREED 32

static void *free_and_allocate(void *blocks)
{
    for (int i = 0; i < FREED; i++)
        hak_free(((void **)blocks)[i]);
    void
        *p[40]; /* so many that it comes to own a slab of theirs, even if it is stopped meanwhile */
    for (int i = 0; i < 40; i++)
        p[i] = hak_malloc(2000);
    struct heap *h = heap_current;
    for (int i = 0; i < 40; i++)
        hak_free(p[i]);
    return owned_count(&h->owned) != 0 ? h : NULL;
}

static bool holds_out(const struct heap *h)
{
    for (unsigned i = 0; h->out.slots != NULL && i < OUT_SLOTS_MOST; i++)
        if (h->out.slots->slot[i].first != NULL)
            return true;
    return false;
}

static void *free_and_trim(void *blocks)
{
    for (int i = 0; i < FREED; i++)
        hak_free(((void **)blocks)[i]);
    bool held = holds_out(heap_current);
    hak_malloc_trim(0);
    return held && !holds_out(heap_current) ? heap_current : NULL;
}

/* Not even what is on its way to others. */
static void test_trimming_sends_off_what_was_gathered(void **state)
{
    (void)state;
    pthread_t thread;
    void *blocks[FREED], *ok;
    for (int i = 0; i < FREED; i++)
        blocks[i] = hak_malloc(80);
    assert_int_equal(pthread_create(&thread, NULL, free_and_trim, blocks), 0);
    pthread_join(thread, &ok);
    assert_non_null(ok);
}

/* What it has freed of others' blocks, and its slabs, go on at once: nobody may come for its
 * heap. */
static void test_an_ended_thread_strands_nothing(void **state)
{
    (void)state;
    pthread_t thread;
    void *blocks[FREED], *h;
    for (int i = 0; i < FREED; i++)
        blocks[i] = hak_malloc(48);
    assert_int_equal(pthread_create(&thread, NULL, free_and_allocate, blocks), 0);
    pthread_join(thread, &h);
    assert_non_null(h);
    assert_ptr_not_equal(h, heap_current);
    assert_false(holds_out(h));
    assert_int_equal(owned_count(&((struct heap *)h)->owned), 0);
}

static bool owns_slabs(struct heap *h, unsigned class_no)
{
    return !TAILQ_EMPTY(&h->owned.partial[class_no]) || !TAILQ_EMPTY(&h->owned.full[class_no]);
}

/* More than CLOCKS_LONG of heap.c, where the processor's counter is slow, too. */
#define LONG_US 900000

static void wait_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

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
        heap_bin_ran_over(heap_current, class_no);
        assert_true(bin->limit == before || bin->limit == before / 2);
    }
    assert_in_range(bin->limit, 64, 128); /* so few are few enough, while it is in demand */
    assert_true(bin->room < -200);
    int32_t held = bin->limit - bin->room;
    hak_free(first); /* the bin has shrunk below what it has: some goes back at each free */
    assert_in_range(held - (bin->limit - bin->room), 1, 64);
    assert_true(owns_slabs(heap_current, class_no));
    wait_us(LONG_US);
    atomic_store(&heap_current->now, processor_clock()); /* as a flush does */
    heap_bin_ran_over(heap_current, class_no);
    assert_int_equal(bin->limit, 0);
    assert_null(bin->head);
    assert_int_equal(heap_current->grown, 0);
    const struct owned *owned = &heap_current->owned;
    assert_true((owned->deposits >> class_no & 1) != 0);
    assert_false(owns_slabs(heap_current, class_no));
    for (int i = 0; !heap_in_demand(heap_current, class_no); i++) {
        assert_in_range(i, 0, DEMAND_MOST);
        heap_bin_ran_out(heap_current, class_no);
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
    heap_bin_ran_out(h, class_no);
    assert_int_equal(bin->limit, KIB(96) / BYTES);
    heap_bin_ran_over(h, class_no);
    h->passed[class_no] = COUNT;
    heap_bin_ran_out(h, class_no);
    assert_int_equal(bin->limit, KIB(96) / BYTES);
    h->demand[next] = DEMAND_MOST;
    h->ran_out[next] = h->now;
    heap_bin_ran_over(h, next);
    h->passed[next] = COUNT;
    heap_bin_ran_out(h, next);
    assert_in_range(h->bin[next].limit, COUNT, COUNT + COUNT / 4);
    h->owned.part = MIB(4);
    heap_bin_ran_over(h, class_no);
    h->passed[class_no] = COUNT;
    heap_bin_ran_out(h, class_no);
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

/* As if each had run over, and out, after more than fits. */
static void grow_all(struct heap *h)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) {
        h->demand[i] = DEMAND_MOST;
        h->ran_out[i] = h->now;
        h->ran_over[i] = 1;
        h->passed[i] = 1000000;
        heap_bin_ran_out(h, i);
    }
}

/* A thread that begins may be about to sleep. One that is awake has a share of a bound for all, or as
 * much as it has in use. */
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
    be_awake(h);
    h->owned.part = 0;
    grow_all(h);
    assert_in_range(h->grown, MIB(15), MIB(16));
    hak_malloc_trim(0);
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
    heap_begin_refill(h);
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
    heap_begin_refill(h);
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
    void *left = NULL, *taken = NULL;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, grow_and_end, NULL), 0);
    pthread_join(thread, &left);
    assert_int_equal(pthread_create(&thread, NULL, begin, NULL), 0);
    pthread_join(thread, &taken);
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
    assert_true(heap_in_demand(h, class_no));
    bin->room += 2 * BOUND - bin->limit;
    bin->limit = 2 * BOUND;
    heap_recount(h);
    for (int i = 0; i < COUNT; i++)
        hak_free(p[i]);
    assert_int_equal(bin->limit, 2 * BOUND);
    for (int i = 0; bin->limit == 2 * BOUND; i++) {
        assert_in_range(i, 0, 16);
        heap_bin_ran_over(h, class_no);
    }
    assert_int_equal(bin->limit, BOUND);
    wait_us(LONG_US);
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        heap_begin_refill(h);
    assert_true(bin->limit > 0);
    assert_true(bin->room < 0 && heap_in_demand(h, class_no));
    hak_free(last);
}

static pthread_barrier_t is_torn, is_mended;

/* Most of what it has made goes back to slabs that it owns. */
static void *tear_and_wait(void *seen)
{
    enum { COUNT = 4000, LONG = 2000 };
    static void *p[COUNT], *q[LONG];
    for (int i = 0; i < COUNT; i++)
        p[i] = hak_malloc(1000);
    for (int i = 0; i < LONG; i++)
        q[i] = hak_malloc(8000); /* once so much is in use, in long slabs */
    for (int i = 0; i < COUNT; i++)
        if (i % 4 != 0)
            hak_free(p[i]);
    *(struct heap **)seen = heap_current;
    pthread_barrier_wait(&is_torn);
    pthread_barrier_wait(&is_mended);
    for (int i = 0; i < COUNT; i += 4)
        hak_free(p[i]);
    for (int i = 0; i < LONG; i++)
        hak_free(q[i]);
    return NULL;
}

static struct slab *long_slab(struct heap *h)
{
    struct slab *s = TAILQ_FIRST(&h->owned.full[size_to_class(8000)]);
    while (s != NULL && slab_units(s) == 1)
        s = TAILQ_NEXT(s, entry);
    return s;
}

static struct slab *marked_slab(struct heap *h)
{
    struct slab *s = TAILQ_FIRST(&h->owned.partial[size_to_class(1000)]);
    while (s != NULL && s->marked < 2)
        s = TAILQ_NEXT(s, entry);
    return s;
}

/* A thread vanished between two words of a slab. */
static int child_finds_words(struct heap *h, struct slab *s)
{
    uintptr_t before = registry_word(s->base);
    int status = 0;
    atomic_store(&h->busy, true);
    registry_set_word(s->base, unit_word(0, slab_class(s)));
    pid_t pid = fork();
    if (pid == 0) {
        for (unsigned i = 0; i < slab_units(s); i++)
            status |= registry_word(s->base + i * UNIT_SIZE) != unit_word(0, slab_class(s));
        _exit(status);
    }
    slab_set_words(s, before);
    atomic_store(&h->busy, false);
    waitpid(pid, &status, 0);
    return status;
}

/* A thread vanishes in a slow path: its counts were not written yet, and a unit was on its way into
 * the magazine. */
static int child_counts(struct heap *h, struct slab *s)
{
    struct magazine *m = &h->owned.magazine;
    struct units taken = segment_take(1, UNIT_SIZE);
    uint32_t marked = s->marked, used = slab_used(s), kept = m->count;
    int status = 0;
    atomic_store(&h->busy, true);
    s->marked--;
    slab_set_used_owner(s, used + 1);
    m->unit[m->count++] = segment_unit(taken.segment, taken.first);
    pid_t pid = fork();
    if (pid == 0)
        _exit(s->marked == marked && slab_used(s) == used && m->count == kept ? 0 : 1);
    s->marked++;
    slab_set_used_owner(s, used);
    m->unit[--m->count] = NULL;
    segment_return(taken.segment, taken.first, 1, true);
    atomic_store(&h->busy, false);
    waitpid(pid, &status, 0);
    return status;
}

static void test_marks_are_counted_anew(void **state)
{
    (void)state;
    struct heap *h;
    pthread_t thread;
    pthread_barrier_init(&is_torn, NULL, 2);
    pthread_barrier_init(&is_mended, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, tear_and_wait, &h), 0);
    pthread_barrier_wait(&is_torn);
    struct slab *s = marked_slab(h);
    assert_non_null(s);
    assert_int_equal(child_counts(h, s), 0);
    s = long_slab(h);
    assert_non_null(s);
    assert_int_equal(child_finds_words(h, s), 0);
    pthread_barrier_wait(&is_mended);
    pthread_join(thread, NULL);
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
    for (int i = 0; i < FEW; i++, wait_us(600))
        p[i] = hak_malloc(1000);
    h->pace = HEAP_YOUNG;
    assert_false(heap_in_demand(h, class_no));
    assert_int_equal(h->bin[class_no].limit, 8);
    assert_false(owns_slabs(h, class_no));
    for (int i = 0; i < 10; i++)
        hak_free(p[i]);
    assert_in_range(h->bin[class_no].room, 0, 1); /* it ran over, and gave back two */
    for (int i = 0; i < COUNT; i++)
        p[i] = i < 10 || i >= FEW ? hak_malloc(1000) : p[i];
    assert_true(heap_in_demand(h, class_no));
    assert_int_equal(h->bin[class_no].limit, 96);
    assert_true(owns_slabs(h, class_no));
    wait_us(LONG_US);
    for (int i = 0; i < COUNT; i++)
        hak_free(p[i]);
    for (int i = 0; i < 1000 && heap_in_demand(h, class_no); i++)
        hak_malloc(1000);
    assert_false(heap_in_demand(h, class_no));
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
    assert_true(heap_in_demand(h, class_no) && bin->limit - bin->room > 200);
    for (unsigned i = 0; i < 2 * SIZE_CLASS_COUNT; i++)
        heap_begin_refill(h);
    assert_true(heap_in_demand(h, class_no)); /* it ran out just now */
    wait_us(LONG_US);
    for (int i = 0; i < 5000 && heap_in_demand(h, class_no); i++)
        hak_malloc(5000);
    assert_false(heap_in_demand(h, class_no));
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
    pthread_t thread;
    void *bin;
    hak_malloc_trim(0);
    assert_int_equal(pthread_create(&thread, NULL, fill_bin, NULL), 0);
    pthread_join(thread, NULL);
    wait_us(LONG_US);
    assert_int_equal(pthread_create(&thread, NULL, take_from_bin, NULL), 0);
    pthread_join(thread, &bin);
    assert_non_null(bin);
}

/* Each allocates now and then: most of a slab is for all of them. By turns, as a thread that is
 * preempted in malloc has its slab meanwhile, and the next one needs another. */
static void *allocate_slowly(void *where)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    for (int i = 0; i < 6; i++, wait_us(600)) {
        pthread_mutex_lock(&turn);
        ((void **)where)[i] = hak_malloc(500);
        pthread_mutex_unlock(&turn);
    }
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return NULL;
}

static size_t count_slabs(void **blocks, size_t count)
{
    size_t slabs = 0;
    for (size_t i = 0; i < count; i++) {
        size_t first = 0;
        while (slab_of(blocks[first]) != slab_of(blocks[i]))
            first++;
        slabs += first == i;
    }
    return slabs;
}

static void test_threads_that_seldom_allocate_share_slabs(void **state)
{
    (void)state;
    static pthread_t thread[LIVE];
    static void *p[LIVE][6];
    hak_malloc_trim(0);
    pthread_mutex_lock(&gate);
    for (size_t i = 0; i < LIVE; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, allocate_slowly, p[i]), 0);
    wait_us(200000);
    pthread_mutex_unlock(&gate);
    for (size_t i = 0; i < LIVE; i++)
        pthread_join(thread[i], NULL);
    assert_in_range(count_slabs(p[0], LIVE * 6), 1, 2 + LIVE * 6 * 512 / UNIT_SIZE);
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

static unsigned slabs_owned(void)
{
    return owned_count(&heap_current->owned);
}

static struct heap *freed_into;

static void *free_some(void *blocks)
{
    for (void **p = blocks; *p != NULL; p++) {
        atomic_store(&freed_into->now, processor_clock()); /* as if it came for them */
        hak_free(*p);
    }
    return NULL;
}

/* A large structure is dropped in an order of its own: once that is clear the heap owns each slab
 * from its next block on. Another thread frees into them: it goes back to its bounds, a few at a
 * time. */
static void test_who_is_undisturbed_owns_what_it_frees(void **state)
{
    (void)state;
    enum { SLABS = 200, EACH = UNIT_SIZE / 512, COUNT = SLABS * EACH, STEP = EACH + 1 };
    static void *p[COUNT], *order[COUNT], *others[COUNT / 4 + 1];
    hak_malloc_trim(0);
    heap_current->ran_over[size_to_class(512)] = 0; /* its bin does not grow */
    for (int i = 0; i < COUNT; i++)
        p[i] = hak_malloc(512);
    assert_in_range(slabs_owned(), 1, OWNED_FULL_MOST + 2);
    for (int i = 0; i < COUNT; i++)
        order[i] = p[(size_t)i * STEP % COUNT];
    for (int i = 0; i < COUNT / 2; i++)
        hak_free(order[i]);
    assert_true(slabs_owned() > SLABS / 2);
    memcpy(others, order + COUNT / 2, sizeof others - sizeof *others);
    pthread_t thread;
    freed_into = heap_current;
    assert_int_equal(pthread_create(&thread, NULL, free_some, others), 0);
    pthread_join(thread, NULL);
    for (int i = COUNT / 4 * 3; i < COUNT / 8 * 7; i++)
        hak_free(order[i]);
    assert_in_range(slabs_owned(), 0, SLABS / OWNED_SHARE + 2);
    for (int i = COUNT / 8 * 7; i < COUNT; i++)
        hak_free(order[i]);
}

static void test_dissolving_leaves_nothing(void **state)
{
    (void)state;
    void *p[100];
    for (size_t i = 0; i < 100; i++)
        p[i] = hak_malloc(i * 300);
    for (size_t i = 0; i < 100; i += 2)
        hak_free(p[i]);
    struct heap *entered = heap_enter();
    struct heap *h = heap_open(entered);
    heap_dissolve(h);
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) {
        assert_null(h->bin[i].head);
        assert_int_equal(h->bin[i].room, h->bin[i].limit);
        assert_false(owns_slabs(h, i));
    }
    assert_int_equal(h->owned.idle_bytes, 0);
    assert_int_equal(owned_count(&h->owned), 0);
    heap_close(entered, h);
    for (size_t i = 1; i < 100; i += 2)
        hak_free(p[i]);
}

static void test_a_double_free_is_seen(void **state)
{
    (void)state;
    void *run = hak_malloc(100000);
    hak_free(run);
    uintptr_t word = unit_word_kind(registry_word(run)); /* free() of it says so and aborts */
    assert_true(word == UNIT_FREE || word == UNIT_KEPT);
}

/* What is freed is kept; what realloc moves away from is not. */
static void test_a_run_that_moved_is_not_kept(void **state)
{
    (void)state;
    void *run = hak_malloc(100000);
    hak_free(run);
    assert_int_equal(unit_word_kind(registry_word(run)), UNIT_KEPT);
    run = hak_malloc(100000);
    void *behind = hak_malloc(200000); /* taken anew: right behind, or else somewhere before */
    void *moved = hak_realloc(run, 4000000);
    assert_ptr_not_equal(moved, run);
    assert_int_equal(registry_word(run), UNIT_FREE);
    hak_free(behind);
    hak_free(moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentinels_have_nothing_and_own_nothing),
        cmocka_unit_test(test_no_owner_is_taken_for_another),
        cmocka_unit_test(test_a_block_far_away_is_kept_and_is_near_then),
        cmocka_unit_test(test_what_has_no_leaf_is_not_near),
        cmocka_unit_test(test_nothing_is_near_to_a_heap_at_first),
        cmocka_unit_test(test_inside_every_call_works_with_a_borrowed_heap),
        cmocka_unit_test(test_gone_stays_gone),
        cmocka_unit_test(test_a_parked_heap_is_taken_again),
        cmocka_unit_test(test_threads_that_live_share_slabs),
        cmocka_unit_test(test_an_ended_thread_strands_nothing),
        cmocka_unit_test(test_trimming_sends_off_what_was_gathered),
        cmocka_unit_test(test_bins_follow_the_use),
        cmocka_unit_test(test_bins_grow_at_once),
        cmocka_unit_test(test_all_bins_together_are_bounded),
        cmocka_unit_test(test_who_sleeps_has_small_bins),
        cmocka_unit_test(test_a_clock_may_step_back),
        cmocka_unit_test(test_who_takes_a_heap_over_begins_with_first_bounds),
        cmocka_unit_test(test_a_grown_bin_that_is_not_used_shrinks),
        cmocka_unit_test(test_what_cools_keeps_a_bound),
        cmocka_unit_test(test_marks_are_counted_anew),
        cmocka_unit_test(test_a_class_is_in_demand_if_it_runs_out_quickly),
        cmocka_unit_test(test_a_class_that_nobody_wants_cools),
        cmocka_unit_test(test_a_parked_bin_has_not_run_out),
        cmocka_unit_test(test_threads_that_seldom_allocate_share_slabs),
        cmocka_unit_test(test_bins_are_bounded),
        cmocka_unit_test(test_who_is_undisturbed_owns_what_it_frees),
        cmocka_unit_test(test_dissolving_leaves_nothing),
        cmocka_unit_test(test_a_double_free_is_seen),
        cmocka_unit_test(test_a_run_that_moved_is_not_kept),
    };
    return RUN_TESTS(tests);
}
