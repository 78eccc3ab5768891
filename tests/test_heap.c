/*
 * test_heap.c: sentinels are never written, heaps are borrowed, parked, dissolved and mended.
 */
#include "testing.h"

#include "fast/bins.h"
#include "plenty.h"
#include "run_in_thread.h"

#include <hakmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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
    void *ok = run_in_thread(gone, NULL);
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
    void *first = run_in_thread(which_heap, NULL);
    void *second = run_in_thread(which_heap, NULL);
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
    void *blocks[FREED];
    for (int i = 0; i < FREED; i++)
        blocks[i] = hak_malloc(80);
    void *ok = run_in_thread(free_and_trim, blocks);
    assert_non_null(ok);
}

/* What it has freed of others' blocks, and its slabs, go on at once: nobody may come for its
 * heap. */
static void test_an_ended_thread_strands_nothing(void **state)
{
    (void)state;
    void *blocks[FREED];
    for (int i = 0; i < FREED; i++)
        blocks[i] = hak_malloc(48);
    void *h = run_in_thread(free_and_allocate, blocks);
    assert_non_null(h);
    assert_ptr_not_equal(h, heap_current);
    assert_false(holds_out(h));
    assert_int_equal(owned_count(&((struct heap *)h)->owned), 0);
}

static bool owns_slabs(struct heap *h, unsigned class_no)
{
    return !TAILQ_EMPTY(&h->owned.partial[class_no]) || !TAILQ_EMPTY(&h->owned.full[class_no]);
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

/* Each allocates now and then: most of a slab is for all of them. By turns, as a thread that is
 * preempted in malloc has its slab meanwhile, and the next one needs another. */
static void *allocate_slowly(void *where)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    for (int i = 0; i < 6; i++, usleep(600)) {
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
    usleep(200000);
    pthread_mutex_unlock(&gate);
    for (size_t i = 0; i < LIVE; i++)
        pthread_join(thread[i], NULL);
    assert_in_range(count_slabs(p[0], LIVE * 6), 1, 2 + LIVE * 6 * 512 / UNIT_SIZE);
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
    freed_into = heap_current;
    run_in_thread(free_some, others);
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
        cmocka_unit_test(test_marks_are_counted_anew),
        cmocka_unit_test(test_threads_that_seldom_allocate_share_slabs),
        cmocka_unit_test(test_who_is_undisturbed_owns_what_it_frees),
        cmocka_unit_test(test_dissolving_leaves_nothing),
        cmocka_unit_test(test_a_double_free_is_seen),
        TEST_WITH_PLENTY(test_a_run_that_moved_is_not_kept),
    };
    return RUN_TESTS(tests);
}
