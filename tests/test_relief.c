/*
 * test_relief.c: what an idle thread keeps is there for others; a heap that is seized is waited for
 * by nobody.
 */
#include "testing.h"

#include "children.h"
#include "fast/bins.h"
#include "fast/relief.h"
#include "plenty.h"
#include "processor.h"
#include "run_in_thread.h"

#include <hakmem.h>

#include <pthread.h>

#define BLOCK  512
#define EACH   (UNIT_SIZE / BLOCK)
#define SLABS  200
#define BLOCKS (SLABS * EACH)
#define STEP   (EACH + 1) /* the next in another slab; and no divisor of BLOCKS */

static pthread_barrier_t all_here;
static void *block[BLOCKS];
static struct heap *other;

static uint32_t holder_of(struct heap *h)
{
    return atomic_load(&h->holder);
}

/* Leaves one of ten blocks in each of its slabs. */
static void *drop_most_and_wait(void *runs)
{
    other = NULL;
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = hak_malloc(BLOCK);
    for (size_t i = 0; i < BLOCKS; i++)
        if (i % 10 != 0)
            hak_free(block[i * STEP % BLOCKS]);
    if (runs != NULL)
        hak_free(hak_malloc(300000));
    other = heap_current;
    pthread_barrier_wait(&all_here);
    pthread_barrier_wait(&all_here);
    for (size_t i = 0; i < BLOCKS; i += 10)
        hak_free(block[i * STEP % BLOCKS]);
    return NULL;
}

static pthread_t start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&all_here, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
    pthread_barrier_wait(&all_here);
    return thread;
}

static void finish(pthread_t thread)
{
    pthread_barrier_wait(&all_here);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* How many units it takes to allocate, and free, about as much as the other has dropped. */
static long units_for_as_much(void)
{
    static void *mine[BLOCKS / 10 * 8];
    long before = segment_used_bytes();
    for (size_t i = 0; i < BLOCKS / 10 * 8; i++)
        mine[i] = hak_malloc(BLOCK);
    long after = segment_used_bytes();
    for (size_t i = 0; i < BLOCKS / 10 * 8; i++)
        hak_free(mine[i]);
    return (after - before) / (long)UNIT_SIZE;
}

static void test_what_an_idle_thread_keeps_is_taken(void **state)
{
    (void)state;
    hak_malloc_trim(0);
    pthread_t thread = start(drop_most_and_wait, NULL);
    assert_true(owned_count(&other->owned) > SLABS / 2);
    usleep(300000);
    assert_in_range(units_for_as_much(), 0, SLABS / 4);
    assert_in_range(owned_count(&other->owned), 0, SLABS / 4);
    assert_int_equal(holder_of(other) & HEAP_STATES, 0);
    finish(thread);
}

/* The same by who takes large blocks only. */
static void test_runs_of_an_idle_thread_are_taken(void **state)
{
    (void)state;
    static void *large[64];
    hak_malloc_trim(0);
    pthread_t thread = start(drop_most_and_wait, &large);
    assert_int_not_equal(runs_bytes(&other->runs), 0);
    usleep(300000);
    for (size_t i = 0; i < 64; i++)
        large[i] = hak_malloc(1000000);
    assert_int_equal(runs_bytes(&other->runs), 0);
    for (size_t i = 0; i < 64; i++)
        hak_free(large[i]);
    finish(thread);
}

/* What came with a huge page is new memory, too. */
static void test_who_takes_of_huge_pages_takes_of_the_idle(void **state)
{
    enum { BUFFERS = 1000, UNITS = 2 }; /* more than there is room for without new segments */
    static void *buffer[BUFFERS];
    huge_set_mode(HUGE_ALWAYS);
    test_what_an_idle_thread_keeps_is_taken(state);
    hak_malloc_trim(0);
    uint32_t before = heap_current->owned.fresh;
    for (size_t i = 0; i < BUFFERS; i++)
        buffer[i] = hak_malloc(UNITS * UNIT_SIZE);
    assert_in_range(heap_current->owned.fresh - before, BUFFERS * UNITS / 10 * 9, BUFFERS * UNITS);
    for (size_t i = 0; i < BUFFERS; i++)
        hak_free(buffer[i]);
    huge_set_mode(HUGE_WHERE_USED);
}

/* Who comes to a slow path now and then keeps its own. */
static void test_who_is_not_idle_keeps_its_slabs(void **state)
{
    (void)state;
    pthread_t thread = start(drop_most_and_wait, NULL);
    uint32_t owned = owned_count(&other->owned);
    atomic_store(&other->now, processor_clock());
    units_for_as_much();
    assert_int_equal(owned_count(&other->owned), owned);
    finish(thread);
}

/* All full, and its own: it has made and dropped as many before. */
static void *fill_and_wait(void *unused)
{
    for (int turn = 0; turn < 4; turn++) {
        for (size_t i = 0; i < BLOCKS; i++)
            block[i] = hak_malloc(BLOCK);
        for (size_t i = 0; turn < 3 && i < BLOCKS; i++)
            hak_free(block[i]);
    }
    other = heap_current;
    pthread_barrier_wait(&all_here);
    pthread_barrier_wait(&all_here);
    return unused;
}

static void free_blocks(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        hak_free(block[i]);
}

/* The same, as if the other came to slow paths meanwhile. */
static void free_while_awake(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        atomic_store(&other->now, processor_clock());
        hak_free(block[i]);
    }
}

/* Who only frees, and takes nothing new, makes them free for all: at each look more than was freed
 * since the last, so that at most what was freed before the other slept stays. */
static void test_what_is_freed_into_slabs_of_a_sleeper_is_free(void **state)
{
    (void)state;
    hak_malloc_trim(0);
    pthread_t thread = start(fill_and_wait, NULL);
    uint32_t owned = owned_count(&other->owned);
    assert_true(owned > SLABS * 3 / 4);
    free_while_awake(0, BLOCKS / 4); /* it is looked at first */
    assert_in_range(owned_count(&other->owned), owned - 16, owned);
    for (size_t i = BLOCKS / 4; i < BLOCKS; i += BLOCKS / 8) {
        usleep(2000);
        free_blocks(i, i + BLOCKS / 8);
    }
    assert_in_range(owned_count(&other->owned), 0, SLABS / 3);
    finish(thread);
}

enum { SLEEPERS = 12, EACH_HAS = 64 * EACH };

static pthread_barrier_t all_asleep;

static struct sleeper {
    pthread_t thread;
    struct heap *heap;
    void *block[EACH_HAS];
} sleeper[SLEEPERS];

/* By all of them, each as it falls asleep: who is slower may take some since. */
static _Atomic(uint32_t) kept_at_first;

static void *fill_its_own_and_wait(void *argument)
{
    struct sleeper *me = argument;
    for (int turn = 0; turn < 6; turn++) {
        for (size_t i = 0; i < EACH_HAS; i++)
            me->block[i] = hak_malloc(BLOCK);
        for (size_t i = 0; turn < 5 && i < EACH_HAS; i++)
            hak_free(me->block[i]);
    }
    me->heap = heap_current;
    atomic_fetch_add(&kept_at_first, atomic_load(&me->heap->keeps));
    pthread_barrier_wait(&all_asleep);
    pthread_barrier_wait(&all_asleep);
    return NULL;
}

static uint32_t kept_now(void)
{
    uint32_t kept = 0;
    for (int i = 0; i < SLEEPERS; i++)
        kept += atomic_load(&sleeper[i].heap->keeps);
    return kept;
}

/* By turns: more of them than are remembered. */
static void test_many_sleepers_are_relieved(void **state)
{
    (void)state;
    hak_malloc_trim(0);
    assert_int_equal(pthread_barrier_init(&all_asleep, NULL, SLEEPERS + 1), 0);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(
            pthread_create(&sleeper[i].thread, NULL, fill_its_own_and_wait, &sleeper[i]), 0);
    pthread_barrier_wait(&all_asleep);
    uint32_t kept = atomic_load(&kept_at_first);
    assert_true(kept > 16 * SLEEPERS);
    for (size_t i = 0; i < EACH_HAS; i++)
        for (int k = 0; k < SLEEPERS; k++)
            hak_free(sleeper[k].block[i * STEP % EACH_HAS]);
    assert_in_range(kept_now(), 0, kept / 4);
    pthread_barrier_wait(&all_asleep);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(pthread_join(sleeper[i].thread, NULL), 0);
}

/* But not as long as it comes to slow paths. */
static void test_who_is_awake_takes_its_own_back(void **state)
{
    (void)state;
    hak_malloc_trim(0);
    pthread_t thread = start(fill_and_wait, NULL);
    uint32_t owned = owned_count(&other->owned);
    free_while_awake(0, BLOCKS);
    assert_in_range(owned_count(&other->owned), owned - 32, owned);
    finish(thread);
}

static void test_trimming_takes_it_at_once(void **state)
{
    (void)state;
    pthread_t thread = start(drop_most_and_wait, block);
    assert_true(runs_bytes(&other->runs) != 0);
    hak_malloc_trim(0);
    assert_int_equal(owned_count(&other->owned), 0);
    assert_int_equal(runs_bytes(&other->runs), 0);
    assert_in_range(units_for_as_much(), 0, SLABS / 4);
    finish(thread);
}

/* The thread's next slow path, of a class that it has no block of. */
static void *come_to_a_slow_path(unsigned class_no)
{
    assert_null(heap_current->bin[class_no].head);
    return hak_malloc(size_class_bytes[class_no]);
}

static unsigned empty_class(void)
{
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        if (heap_current->bin[i].head == NULL)
            return i;
    fail();
    return 0;
}

/* It stays the thread's: what it gets meanwhile goes into its own bins, so that it need not borrow
 * for each block. */
static void test_a_seized_heap_is_not_waited_for(void **state)
{
    (void)state;
    hak_free(hak_malloc(100));
    struct heap *h = heap_current;
    assert_true(heap_seize(h));
    unsigned class_no = empty_class();
    void *p = come_to_a_slow_path(class_no);
    assert_non_null(p);
    assert_ptr_equal(heap_current, h);
    assert_int_equal(holder_of(h) & HEAP_STATES, HEAP_SEIZED);
    assert_false(heap_seize(h));
    assert_non_null(h->bin[class_no].head);
    heap_end_seizure(h);
    assert_int_equal(holder_of(h) & HEAP_STATES, 0);
    hak_free(p);
}

/* Nor are its runs taken from, or added to. */
static void test_a_seized_heap_keeps_its_runs(void **state)
{
    (void)state;
    enum { BUFFER = 2 * UNIT_SIZE };
    hak_free(hak_malloc(BUFFER));
    struct heap *h = heap_current;
    for (int i = 0; i < 1000 && (h->runs.kept == 0 || h->brief < 2); i++)
        hak_free(hak_malloc(BUFFER));
    uint32_t kept = h->runs.kept;
    assert_true(kept > 0 && h->brief > 1);
    assert_true(heap_seize(h));
    void *p = hak_malloc(BUFFER);
    assert_int_equal(h->runs.kept, kept);
    hak_free(p);
    assert_int_equal(h->runs.kept, kept);
    assert_false(h->busy);
    heap_end_seizure(h);
    p = hak_malloc(BUFFER);
    assert_int_equal(h->runs.kept, kept - 2);
    atomic_store(&h->keeps, 0);
    hak_free(p); /* by the short way: that it keeps some is known */
    assert_int_equal(h->runs.kept, kept);
    assert_true(heap_keeps_any(h));
}

/* Its bin holds thousands, as if as many had passed it. */
static void *leave_many(void *unused)
{
    unsigned class_no = size_to_class(96);
    hak_free(hak_malloc(100));
    struct heap *h = heap_current;
    h->demand[class_no] = DEMAND_MOST;
    h->ran_out[class_no] = h->now;
    h->ran_over[class_no] = 1;
    h->passed[class_no] = BLOCKS;
    h->owned.part = 0;
    bins_ran_out(h, class_no);
    for (size_t i = 0; i < BLOCKS / 4; i++)
        block[i] = hak_malloc(96);
    for (size_t i = 0; i < BLOCKS / 4; i++)
        hak_free(block[i]);
    return unused;
}

/* Else it would take as long as there are blocks in a bin of a thread that had many. */
static void test_a_few_are_passed_on_to_a_seized_heap(void **state)
{
    (void)state;
    unsigned class_no = size_to_class(96);
    hak_malloc_trim(0);
    run_in_thread(leave_many, NULL);
    assert_true(heap_cached_bytes() > 96 * 2000); /* parked */
    hak_free(hak_malloc(100));
    struct heap *h = heap_current;
    assert_int_equal(h->bin[class_no].limit, 0);
    assert_true(heap_seize(h));
    void *p = hak_malloc(96);
    assert_in_range(-h->bin[class_no].room, 1, 64);
    heap_end_seizure(h);
    hak_free(p);
}

static void test_fast_paths_need_no_slabs(void **state)
{
    (void)state;
    hak_free(hak_malloc(100));
    struct heap *h = heap_current;
    assert_true(heap_seize(h));
    for (int i = 0; i < 10; i++)
        hak_free(hak_malloc(100));
    assert_ptr_equal(heap_current, h);
    heap_end_seizure(h);
    assert_int_equal(holder_of(h) & HEAP_STATES, 0);
    void *p = come_to_a_slow_path(empty_class());
    assert_ptr_equal(heap_current, h);
    hak_free(p);
}

static void test_a_bin_that_runs_over_while_seized_loses_nothing(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    static char *p[MANY];
    for (int i = 0; i < MANY; i++)
        *(p[i] = hak_malloc(112)) = 1;
    struct heap *h = heap_current;
    const struct bin *bin = &h->bin[size_to_class(112)];
    assert_true(heap_seize(h));
    for (int i = 0; i < MANY; i++)
        hak_free(p[i]);
    assert_ptr_equal(heap_current, h);
    assert_in_range(bin->limit - bin->room, 0, bin->limit + 1);
    for (int i = 0; i < MANY; i++)
        *(p[i] = hak_malloc(112)) = 1;
    heap_end_seizure(h);
    for (int i = 0; i < MANY; i++)
        hak_free(p[i]);
    assert_in_range(bin->limit - bin->room, 0, bin->limit + 1);
}

static void test_a_busy_heap_is_not_seized(void **state)
{
    (void)state;
    hak_free(hak_malloc(100));
    struct heap *entered = heap_enter();
    struct heap *h = heap_open(entered);
    assert_false(heap_seize(h));
    assert_false(heap_is_idle(h, (uint16_t)(h->now + UINT16_MAX / 2)));
    heap_close(entered, h);
    assert_false(heap_is_idle(h, h->now));
    assert_true(heap_is_idle(h, (uint16_t)(h->now + UINT16_MAX / 2)));
}

static void *end_while_seized(void *unused)
{
    (void)unused;
    hak_free(hak_malloc(100));
    other = heap_current;
    assert_true(heap_seize(other));
    pthread_barrier_wait(&all_here);
    return NULL;
}

static void test_a_thread_ends_while_its_heap_is_seized(void **state)
{
    (void)state;
    pthread_t thread = start(end_while_seized, NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(holder_of(other) & HEAP_STATES, HEAP_SEIZED | HEAP_LEFT);
    heap_end_seizure(other);
    assert_int_equal(holder_of(other), 0);
}

/* The parent had its heap seized by a thread that has vanished. */
static void use_in_the_child(int number)
{
    struct heap *h = heap_current;
    bool is_idle = (holder_of(h) & HEAP_STATES) == 0, is_empty = owned_count(&h->owned) == 0;
    void *p = come_to_a_slow_path(empty_class());
    hak_free(p);
    bool is_own = heap_current == h;
    for (size_t i = (size_t)number; i < BLOCKS; i++)
        hak_free(block[i]);
    _exit(is_idle && is_empty && is_own ? 0 : 1);
}

static void test_the_child_of_a_fork_has_its_heap_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < BLOCKS; i++)
        block[i] = hak_malloc(BLOCK);
    struct heap *h = heap_current;
    assert_true(owned_count(&h->owned) != 0);
    assert_true(heap_seize(h));
    assert_int_equal(count_failed_children(2, use_in_the_child), 0);
    heap_end_seizure(h);
    for (size_t i = 0; i < BLOCKS; i++)
        hak_free(block[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_an_idle_thread_keeps_is_taken),
        cmocka_unit_test(test_who_takes_of_huge_pages_takes_of_the_idle),
        cmocka_unit_test(test_runs_of_an_idle_thread_are_taken),
        cmocka_unit_test(test_who_is_not_idle_keeps_its_slabs),
        cmocka_unit_test(test_what_is_freed_into_slabs_of_a_sleeper_is_free),
        cmocka_unit_test(test_many_sleepers_are_relieved),
        cmocka_unit_test(test_who_is_awake_takes_its_own_back),
        cmocka_unit_test(test_trimming_takes_it_at_once),
        cmocka_unit_test(test_a_seized_heap_is_not_waited_for),
        cmocka_unit_test(test_a_few_are_passed_on_to_a_seized_heap),
        cmocka_unit_test(test_fast_paths_need_no_slabs),
        TEST_WITH_PLENTY(test_a_seized_heap_keeps_its_runs),
        cmocka_unit_test(test_a_bin_that_runs_over_while_seized_loses_nothing),
        cmocka_unit_test(test_a_busy_heap_is_not_seized),
        cmocka_unit_test(test_a_thread_ends_while_its_heap_is_seized),
        cmocka_unit_test(test_the_child_of_a_fork_has_its_heap_back),
    };
    return RUN_TESTS(tests);
}
