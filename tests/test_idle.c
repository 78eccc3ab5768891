/*
 * test_idle.c: a producer that allocates and a consumer that only frees, then both alive and idle:
 * what stays resident is within 20 MiB of what is live, with no further call. The same where two
 * threads drop a large structure, each here and there.
 *
 *     test_idle [LIVE_BLOCKS]       500 (256 KiB) if not given
 *     test_idle dropped             the second
 */
#include "testing.h"
#include "rss.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 400000, STEP = 1000 };

static int live_blocks = 500;
static char *block[BLOCKS];
static _Atomic(int) made, done;
static _Atomic(bool) over;

static size_t size_of(int i)
{
    return 16 + (size_t)i * 7919 % 1000;
}

/* Done, and alive, and without a further call. */
static void *go_idle(void)
{
    atomic_fetch_add(&done, 1);
    while (!atomic_load(&over))
        usleep(1000);
    return NULL;
}

static void *produce(void *argument)
{
    (void)argument;
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = memset(malloc(size_of(i)), 1, size_of(i));
        if (i % STEP == STEP - 1)
            atomic_store(&made, i + 1);
    }
    return go_idle();
}

/* It falls behind by half of all, so that there is a peak; the last blocks stay. */
static void *consume(void *argument)
{
    (void)argument;
    for (int i = 0; i < BLOCKS - live_blocks; i++) {
        int ahead = i + BLOCKS / 2 < BLOCKS ? i + BLOCKS / 2 : BLOCKS;
        while (atomic_load(&made) < ahead)
            usleep(100);
        free(block[i]);
    }
    return go_idle();
}

static void test_idle_after_producing_and_consuming(void **state)
{
    (void)state;
    pthread_t producer, consumer;
    long live = 0, before = rss_kib() + (long)sizeof block / 1024;
    for (int i = BLOCKS - live_blocks; i < BLOCKS; i++)
        live += (long)size_of(i);
    assert_int_equal(pthread_create(&producer, NULL, produce, NULL), 0);
    assert_int_equal(pthread_create(&consumer, NULL, consume, NULL), 0);
    while (atomic_load(&made) < BLOCKS)
        usleep(100);
    long peak = rss_kib();
    while (atomic_load(&done) < 2)
        usleep(1000);
    long after = rss_kib();
    printf("producer and consumer idle: %ld KiB live, %ld KiB before, %ld at the peak, %ld after\n",
           live / 1024, before, peak, after);
    assert_true(peak > before + 80 * 1024);
    assert_true(after < before + live / 1024 + 20 * 1024);
    atomic_store(&over, true);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    for (int i = BLOCKS - live_blocks; i < BLOCKS; i++)
        free(block[i]);
}

enum { PIECES = 1000000, PIECE_BYTES = 80, DROPPERS = 2 };

static char *piece[PIECES];

static void *drop(void *argument)
{
    for (int i = *(const int *)argument; i < PIECES; i += DROPPERS)
        free(piece[i]);
    return go_idle();
}

/* Each thread frees some of every slab, and none is the last for long. */
static void test_idle_after_dropping_here_and_there(void **state)
{
    (void)state;
    static const int first[DROPPERS] = {0, 1};
    pthread_t dropper[DROPPERS];
    unsigned random = 1;
    memset(piece, 0, sizeof piece);
    long before = rss_kib();
    for (int i = 0; i < PIECES; i++)
        piece[i] = memset(malloc(PIECE_BYTES), 1, PIECE_BYTES);
    for (int i = PIECES - 1; i > 0; i--) {
        random = random * 1664525u + 1013904223u;
        int other = (int)((uint64_t)random * (unsigned)(i + 1) >> 32);
        char *p = piece[i];
        piece[i] = piece[other];
        piece[other] = p;
    }
    long peak = rss_kib();
    for (int i = 0; i < DROPPERS; i++)
        assert_int_equal(pthread_create(&dropper[i], NULL, drop, (void *)(uintptr_t)&first[i]), 0);
    while (atomic_load(&done) < DROPPERS)
        usleep(1000);
    long after = rss_kib();
    printf("all dropped here and there: %ld KiB before, %ld at the peak, %ld after\n", before, peak,
           after);
    assert_true(peak > before + 70 * 1024);
    assert_true(after < before + 20 * 1024);
    atomic_store(&over, true);
    for (int i = 0; i < DROPPERS; i++)
        pthread_join(dropper[i], NULL);
}

/* Each in a process of its own: what one leaves says what the other may keep. */
int main(int argc, char **argv)
{
    const struct CMUnitTest dropping[] = {
        cmocka_unit_test(test_idle_after_dropping_here_and_there),
    };
    const struct CMUnitTest consuming[] = {
        cmocka_unit_test(test_idle_after_producing_and_consuming),
    };
    if (argc > 1 && strcmp(argv[1], "dropped") == 0)
        return RUN_TESTS(dropping);
    if (argc > 1)
        live_blocks = atoi(argv[1]);
    return RUN_TESTS(consuming);
}
