/*
 * test_signals.c: malloc and free are async-signal-safe. A timer interrupts allocating threads; its
 * handler allocates, reallocates and frees in every tier, its own blocks and the interrupted
 * thread's. Or signals leave malloc or free for good, by siglongjmp.
 *
 *     test_signals [SECONDS]      3 if not given
 */
#include "testing.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define SHARED  256

static const size_t sizes[] = {16, 48, 300, 1000, 4000, 30000, 60000, 1200000, 5000000};
static _Atomic(unsigned char *) shared[SHARED];
static _Atomic(long) entries;
static _Atomic(bool) over;
static double seconds = 3;

static void check(const unsigned char *p)
{
    if (p[0] != p[15] || p[1] != p[14])
        abort();
}

static unsigned char *make(size_t n, unsigned char mark)
{
    unsigned char *p = malloc(n);
    if (p == NULL)
        abort();
    p[0] = p[15] = mark;
    p[1] = p[14] = (unsigned char)~mark;
    return p;
}

static void swap_in(unsigned i, unsigned char *p)
{
    unsigned char *old = atomic_exchange(&shared[i % SHARED], p);
    if (old != NULL) {
        check(old);
        free(old);
    }
}

static void handler(int number)
{
    (void)number;
    static _Atomic(unsigned) turn;
    unsigned i = atomic_fetch_add(&turn, 1);
    unsigned char *p = make(sizes[i % 7], (unsigned char)i);
    unsigned char *q = make(sizes[i * 3 % 5], (unsigned char)i);
    if (i % 64 == 0) {
        q = realloc(q, sizes[7]);
        check(q);
    }
    free(q);
    swap_in(i * 31, p);
    atomic_fetch_add(&entries, 1);
}

static void *work(void *argument)
{
    unsigned i = (unsigned)(uintptr_t)argument * 1000;
    while (!atomic_load(&over)) {
        unsigned char *p[8];
        for (int k = 0; k < 8; k++)
            p[k] = make(sizes[(i + (unsigned)k) % (i % 100 == 0 ? 8 : 6)], (unsigned char)i);
        for (int k = 0; k < 8; k++) {
            check(p[k]);
            if (k % 2 != 0)
                free(p[k]);
            else
                swap_in(i + (unsigned)k, p[k]);
        }
        i++;
    }
    return NULL;
}

static void test_handlers_allocate(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, 50}, {0, 50}};
    pthread_t thread[THREADS];
    assert_int_equal(sigaction(SIGPROF, &action, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, (void *)i), 0);
    setitimer(ITIMER_PROF, &every, NULL);
    struct timespec until, now;
    clock_gettime(CLOCK_MONOTONIC, &until);
    do { /* the timer is coarse: signals from here are not */
        for (int i = 0; i < THREADS; i++)
            pthread_kill(thread[i], SIGUSR1);
        struct timespec pause = {0, 20000};
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - until.tv_sec) + (double)(now.tv_nsec - until.tv_nsec) / 1e9 <
             seconds);
    memset(&every, 0, sizeof every);
    setitimer(ITIMER_PROF, &every, NULL);
    atomic_store(&over, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    printf("%ld handler entries\n", entries);
    assert_true(entries > 1000);
}

/* A thread's very first allocation is made by a handler. */
static void *only_signalled(void *argument)
{
    (void)argument;
    raise(SIGUSR1);
    free(malloc(100));
    return NULL;
}

static void test_first_allocation_in_a_handler(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, only_signalled, NULL), 0);
        pthread_join(thread, NULL);
    }
}

static __thread sigjmp_buf start;
static __thread volatile sig_atomic_t may_leave;

static void leave(int number)
{
    (void)number;
    if (may_leave) {
        may_leave = false;
        siglongjmp(start, 1);
    }
}

static void replace(_Atomic(unsigned char *) *at, unsigned turn)
{
    unsigned char *old = atomic_exchange(at, NULL);
    if (old != NULL)
        check(old);
    free(old);
    atomic_store(at, make(sizes[turn % 64 == 0 ? 6 : turn % 5], (unsigned char)turn));
}

/* Allocates until a handler leaves it, and then goes on for a while. */
static void *be_left(void *unused)
{
    _Atomic(unsigned char *) mine[SHARED] = {NULL};
    volatile unsigned turn = 0, end = UINT_MAX;
    if (sigsetjmp(start, 1) != 0)
        end = turn + SHARED;
    else
        may_leave = true;
    for (; turn != end; turn++)
        replace(&mine[turn * 7 % SHARED], turn);
    for (int i = 0; i < SHARED; i++)
        free(mine[i]);
    atomic_fetch_add(&entries, 1);
    return unused;
}

/* What a thread was about to make or free is lost, and its heap if it was left in a slow path. It
 * goes on, no other block is broken, and whoever has the heap next finds it whole. */
static void test_handlers_leave(void **state)
{
    (void)state;
    enum { ROUNDS = 400 };
    struct sigaction action = {.sa_handler = leave};
    assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
    atomic_store(&entries, 0);
    for (int round = 1; round <= ROUNDS; round++) {
        pthread_t thread[THREADS];
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, be_left, NULL), 0);
        for (int tries = 0; atomic_load(&entries) < (long)round * THREADS; tries++) {
            assert_in_range(tries, 0, 10000);
            nanosleep(&(struct timespec){0, 100000}, NULL);
            for (int i = 0; i < THREADS; i++)
                pthread_kill(thread[i], SIGUSR2);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(thread[i], NULL);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seconds = atof(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handlers_allocate),
        cmocka_unit_test(test_first_allocation_in_a_handler),
        cmocka_unit_test(test_handlers_leave),
    };
    return RUN_TESTS(tests);
}
