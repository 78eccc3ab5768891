/*
 * bench.h: what the workloads share: options, threads that run until the time is up, and one line
 * of results that tools/bench reads.
 *
 *     WORKLOAD [-t THREADS] [-s SECONDS] [-e SEED] [-LETTER VALUE]...
 *     threads T ops_per_second X max_rss_kib R cpu_seconds C [more pairs]
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one thread writes to at every operation lies apart from what others do, by two cache lines,
 * since some processors fetch these in pairs. Otherwise it is the place where an allocator happens
 * to put it that is measured. */
#define BENCH_APART 128

struct bench_thread {
    _Alignas(BENCH_APART) unsigned number;
    uint64_t random;     /* splitmix64's state */
    uint64_t operations; /* mallocs, or what the workload counts */
    void *own;           /* the workload's */
};

/* A further option of a workload; values are whole and above 0. */
struct bench_option {
    char letter;
    long *value;
    const char *what;
};

extern long bench_threads, bench_seed;
extern double bench_seconds;

/* Reads the command line; `options` ends with a letter of 0, and may be NULL. */
void bench_begin(int argc, char **argv, const char *name, const struct bench_option *options);
/* Runs body in bench_threads threads, until each returns; prints the line of results. */
void bench_run(void (*body)(struct bench_thread *));
/* The same in parts, for workloads that start their own threads. */
void bench_start_clock(void);
void bench_report(uint64_t operations);
/* More pairs for the line, before it is printed. */
void bench_add(const char *name, double value);

/* Whether the time is up; cheap enough for every 100 operations. */
bool bench_over(void);
double bench_now(void);
void bench_sleep(double seconds);
long bench_rss_kib(void);

uint64_t bench_random(struct bench_thread *t);
/* least <= result <= most */
size_t bench_between(struct bench_thread *t, size_t least, size_t most);

/* Zeroes, on a multiple of BENCH_APART; ends the process if there is no memory. */
void *bench_zeroed(size_t count, size_t bytes);
/* malloc, counted, its first and last byte written; ends the process if there is none. */
char *bench_malloc(struct bench_thread *t, size_t n);
void bench_fail(const char *what) __attribute__((noreturn));

#endif
