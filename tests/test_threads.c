/*
 * test_threads.c: threads start, exit, and free after their destructors have run; blocks cross
 * threads; memory stays flat.
 *
 *     test_threads [THREAD_STARTS [BLOCKS_PASSED]]       20,000 and 5,000,000 if not given
 */
#include "testing.h"
#include "rss.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long thread_starts = 20000;
static long blocks_passed = 5000000;

/* ---- start and exit ---- */

static void *allocate_in_each_tier(void *argument)
{
    static const size_t sizes[] = {16, 100, 1000, 5000, 20000, 40000};
    void *p[6];
    for (int i = 0; i < 6; i++)
        p[i] = memset(malloc(sizes[i]), 1, 16);
    for (int i = 0; i < 5; i++)
        free(p[i]);
    free(argument);
    return p[5]; /* left to whoever joins */
}

static void start_and_join(long count)
{
    enum { AT_ONCE = 8 };
    pthread_t thread[AT_ONCE];
    for (long done = 0; done < count; done += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, allocate_in_each_tier, malloc(50)),
                             0);
        for (int i = 0; i < AT_ONCE; i++) {
            void *left;
            pthread_join(thread[i], &left);
            free(left);
        }
    }
}

static void test_many_thread_starts_stay_flat(void **state)
{
    (void)state;
    start_and_join(thread_starts / 10);
    long before = rss_kib();
    start_and_join(thread_starts);
    long after = rss_kib();
    printf("%ld thread starts: %ld KiB before, %ld KiB after\n", thread_starts, before, after);
    assert_true(after < before + 2048);
}

/* ---- after the destructors ---- */

static pthread_key_t late_key;
static _Atomic(int) late_calls;

/* Runs again and again, as long as glibc lets it: after hakmem's own destructor, at least once. */
static void late(void *p)
{
    free(p);
    void *q = malloc(500);
    assert_non_null(q);
    memset(q, 3, 500);
    q = realloc(q, 70000);
    assert_non_null(q);
    atomic_fetch_add(&late_calls, 1);
    pthread_setspecific(late_key, q);
}

static void late_last(void *p)
{
    free(p);
}

static void *with_late_key(void *argument)
{
    (void)argument;
    pthread_setspecific(late_key, malloc(10));
    return NULL;
}

static void test_allocating_after_the_destructors(void **state)
{
    (void)state;
    pthread_key_t last_key;
    assert_int_equal(pthread_key_create(&late_key, late), 0);
    assert_int_equal(pthread_key_create(&last_key, late_last), 0);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, with_late_key, NULL), 0);
        pthread_join(thread, NULL);
    }
    assert_true(late_calls >= 400);
    pthread_key_delete(late_key);
    pthread_key_delete(last_key);
}

/* More keys than fit into a thread's own block: glibc then allocates inside pthread_setspecific. */
static void *with_many_keys(void *keys)
{
    for (int i = 0; i < 200; i++)
        pthread_setspecific(((pthread_key_t *)keys)[i], malloc(40));
    return NULL;
}

static void test_many_keys(void **state)
{
    (void)state;
    pthread_key_t keys[200];
    pthread_t thread;
    for (int i = 0; i < 200; i++)
        assert_int_equal(pthread_key_create(&keys[i], free), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&thread, NULL, with_many_keys, keys), 0);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < 200; i++)
        pthread_key_delete(keys[i]);
}

/* ---- one allocates, another frees ---- */

#define RING 1024
static _Atomic(char *) ring[RING];
static _Atomic(bool) consumer_started;

static void *consume(void *argument)
{
    long count = *(long *)argument;
    atomic_store(&consumer_started, true);
    for (long i = 0; i < count; i++) {
        char *p;
        while ((p = atomic_exchange(&ring[i % RING], NULL)) == NULL)
            sched_yield();
        assert_int_equal(p[0], (char)i);
        free(p);
    }
    return NULL;
}

static void pass_blocks(long count)
{
    pthread_t consumer;
    assert_int_equal(pthread_create(&consumer, NULL, consume, &count), 0);
    for (long i = 0; i < count; i++) {
        char *p = malloc(16 + (size_t)i * 7919 % 500);
        p[0] = (char)i;
        while (atomic_load(&ring[i % RING]) != NULL)
            sched_yield();
        atomic_store(&ring[i % RING], p);
    }
    pthread_join(consumer, NULL);
}

static void test_producer_and_consumer_stay_flat(void **state)
{
    (void)state;
    pass_blocks(blocks_passed / 10);
    long before = rss_kib();
    pass_blocks(blocks_passed);
    long after = rss_kib();
    printf("%ld blocks passed: %ld KiB before, %ld KiB after\n", blocks_passed, before, after);
    assert_true(after < before + 4096);
}

/* A consumer that frees 256 MiB and never allocates: with no further call, it is the system's
 * again. */
static void *free_all(void *blocks)
{
    for (char **p = blocks; *p != NULL; p++)
        free(*p);
    return NULL;
}

static void test_freed_by_another_comes_back(void **state)
{
    (void)state;
    enum { COUNT = 512 * 1024 };
    char **blocks = calloc(COUNT + 1, sizeof *blocks);
    pthread_t thread;
    long before = rss_kib();
    for (int i = 0; i < COUNT; i++)
        blocks[i] = memset(malloc(512), 1, 512);
    long peak = rss_kib();
    assert_int_equal(pthread_create(&thread, NULL, free_all, blocks), 0);
    pthread_join(thread, NULL);
    long after = rss_kib();
    printf("freed by another: %ld KiB before, %ld at the peak, %ld after\n", before, peak, after);
    assert_true(peak > before + 200 * 1024);
    assert_true(after < before + 20 * 1024);
    free(blocks);
}

/* ---- short threads that hand blocks on ---- */

enum {
    SHORT_THREADS = 16000,
    SHORT_AT_ONCE = 16,
    SHORT_BLOCKS = 400,
    SHORT_KEPT = SHORT_BLOCKS / 10
};

static char *handed_on[SHORT_THREADS][SHORT_KEPT];

static void *allocate_and_hand_on(void *argument)
{
    char **kept = argument, *block[SHORT_BLOCKS];
    for (int i = 0; i < SHORT_BLOCKS; i++) {
        size_t size = 16 + (size_t)(i + (kept - handed_on[0])) * 7919 % 1000;
        block[i] = memset(malloc(size), 1, size);
    }
    for (int i = 0; i < SHORT_BLOCKS; i++)
        if (i % 10 == 0)
            kept[i / 10] = block[i];
        else
            free(block[i]);
    return NULL;
}

static void run_short_threads(void)
{
    pthread_t thread[SHORT_AT_ONCE];
    for (int done = 0; done < SHORT_THREADS; done += SHORT_AT_ONCE) {
        for (int i = 0; i < SHORT_AT_ONCE; i++)
            assert_int_equal(
                pthread_create(&thread[i], NULL, allocate_and_hand_on, handed_on[done + i]), 0);
        for (int i = 0; i < SHORT_AT_ONCE; i++)
            pthread_join(thread[i], NULL);
    }
}

static void test_short_threads_that_hand_blocks_on(void **state)
{
    (void)state;
    long before = rss_kib();
    run_short_threads();
    long peak = rss_kib();
    for (int i = 0; i < SHORT_THREADS; i++)
        for (int k = 0; k < SHORT_KEPT; k++)
            free(handed_on[i][k]);
    long freed = rss_kib();
    malloc_trim(0);
    long trimmed = rss_kib();
    printf(
        "%d short threads: %ld KiB before, %ld at the peak, %ld when all was freed, %ld trimmed\n",
        SHORT_THREADS, before, peak, freed, trimmed);
    assert_true(peak > before + 200 * 1024);
    assert_true(freed < 100 * 1024);
    assert_true(trimmed < 15 * 1024);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        thread_starts = atol(argv[1]);
    if (argc > 2)
        blocks_passed = atol(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_threads_that_hand_blocks_on),
        cmocka_unit_test(test_freed_by_another_comes_back),
        cmocka_unit_test(test_many_thread_starts_stay_flat),
        cmocka_unit_test(test_allocating_after_the_destructors),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_producer_and_consumer_stay_flat),
    };
    return RUN_TESTS(tests);
}
