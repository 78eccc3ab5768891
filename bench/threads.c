/*
 * threads: what a thread costs by being there.
 *
 *     -m 1         start a thread that allocates one block, frees it and ends; join it; and so on: threads a second
 *     -m 2         many threads live at once, each holds a block of each of five sizes: peak resident memory
 *     -m 3         the same, but each has freed its blocks before it waits
 *     -n THREADS   how many live at once in 2 and 3; 10,000 if not given
 *
 * -t is how many start threads side by side in 1. In 2 and 3, which take as long as they take, the
 * pair "live_rss_kib" is what is resident while all wait, and "ended_rss_kib" once all have ended.
 *
 * Threads meet at one mutex: each counts itself in and waits for the gate to open.
 */
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>

#define STACK_BYTES (64 * 1024)
#define SIZES       5

static const size_t sizes[SIZES] = {16, 100, 400, 1500, 6000};

static long mode = 1, live = 10000;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER, gate = PTHREAD_COND_INITIALIZER;
static long waiting;
static bool open_now;

/* ---- one after another ---- */

static void *allocate_once(void *argument)
{
    free(bench_malloc(argument, 100));
    return NULL;
}

static void start_and_join(struct bench_thread *t)
{
    while (!bench_over()) {
        struct bench_thread unused = {0};
        pthread_t thread;
        if (pthread_create(&thread, NULL, allocate_once, &unused) != 0)
            bench_fail("no thread");
        pthread_join(thread, NULL);
        t->operations++;
    }
}

/* ---- all at once ---- */

static void wait_at_gate(void)
{
    pthread_mutex_lock(&lock);
    if (++waiting == live)
        pthread_cond_signal(&changed);
    while (!open_now)
        pthread_cond_wait(&gate, &lock);
    pthread_mutex_unlock(&lock);
}

static void free_all(char **block)
{
    for (int i = 0; i < SIZES; i++)
        free(block[i]);
}

static void *hold(void *argument)
{
    struct bench_thread unused = {0};
    char *block[SIZES];
    for (int i = 0; i < SIZES; i++)
        block[i] = bench_malloc(&unused, sizes[i]);
    if (mode == 3)
        free_all(block);
    wait_at_gate();
    if (mode == 2)
        free_all(block);
    return argument;
}

static pthread_t *start_all(void)
{
    pthread_attr_t attributes;
    pthread_t *thread = calloc((size_t)live, sizeof *thread);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (long i = 0; i < live; i++)
        if (thread == NULL || pthread_create(&thread[i], &attributes, hold, NULL) != 0)
            bench_fail("no thread");
    pthread_attr_destroy(&attributes);
    return thread;
}

static void all_at_once(void)
{
    bench_start_clock();
    pthread_t *thread = start_all();
    pthread_mutex_lock(&lock);
    while (waiting < live)
        pthread_cond_wait(&changed, &lock);
    bench_add("live_rss_kib", (double)bench_rss_kib());
    open_now = true;
    pthread_cond_broadcast(&gate);
    pthread_mutex_unlock(&lock);
    for (long i = 0; i < live; i++)
        pthread_join(thread[i], NULL);
    free(thread);
    bench_add("ended_rss_kib", (double)bench_rss_kib());
    bench_report((uint64_t)live * SIZES);
}

int main(int argc, char **argv)
{
    const struct bench_option options[] = {
        {'m', &mode, "1 (starts), 2 (live, holding) or 3 (live)"},
        {'n', &live, "THREADS"},
        {0, NULL, NULL}};
    bench_begin(argc, argv, "threads", options);
    if (mode > 3)
        bench_fail("-m is 1, 2 or 3");
    if (mode == 1)
        bench_run(start_and_join);
    else
        all_at_once();
    return 0;
}
