/*
 * bench.c: see bench.h.
 */
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

long bench_threads = 4, bench_seed = 12345;
double bench_seconds = 2;

static const char *workload;
static double started;
static char more[1024];

void bench_fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", workload, what);
    exit(1);
}

static void usage(const struct bench_option *options)
{
    fprintf(stderr, "usage: %s [-t THREADS] [-s SECONDS] [-e SEED]", workload);
    for (; options != NULL && options->letter != 0; options++)
        fprintf(stderr, " [-%c %s]", options->letter, options->what);
    fprintf(stderr, ", each above 0, and whole but for SECONDS\n");
    exit(2);
}

static long *value_of(int letter, const struct bench_option *options)
{
    for (; options != NULL && options->letter != 0; options++)
        if (options->letter == letter)
            return options->value;
    return NULL;
}

void bench_begin(int argc, char **argv, const char *name, const struct bench_option *options)
{
    const struct bench_option common[] = {
        {'t', &bench_threads, ""}, {'e', &bench_seed, ""}, {0, NULL, ""}};
    char letters[64] = "t:s:e:";
    workload = name;
    for (const struct bench_option *o = options; o != NULL && o->letter != 0; o++)
        snprintf(letters + strlen(letters), sizeof letters - strlen(letters), "%c:", o->letter);
    for (int c; (c = getopt(argc, argv, letters)) != -1;) {
        if (c == 's' && (bench_seconds = atof(optarg)) > 0)
            continue;
        long *value = value_of(c, common) != NULL ? value_of(c, common) : value_of(c, options);
        if (value == NULL || (*value = atol(optarg)) <= 0)
            usage(options);
    }
    bench_start_clock();
}

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void bench_sleep(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

void bench_start_clock(void)
{
    started = bench_now();
}

bool bench_over(void)
{
    return bench_now() - started >= bench_seconds;
}

long bench_rss_kib(void)
{
    long total = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%ld %ld", &total, &resident) != 2)
        bench_fail("/proc/self/statm can't be read");
    fclose(statm);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

uint64_t bench_random(struct bench_thread *t)
{
    uint64_t z = t->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return (z ^ (z >> 27)) >> 12;
}

size_t bench_between(struct bench_thread *t, size_t least, size_t most)
{
    return least + (size_t)(bench_random(t) % (most - least + 1));
}

void *bench_zeroed(size_t count, size_t bytes)
{
    size_t all = (count * bytes + BENCH_APART - 1) / BENCH_APART * BENCH_APART;
    void *p = aligned_alloc(BENCH_APART, all);
    if (p == NULL)
        bench_fail("out of memory");
    return memset(p, 0, all);
}

char *bench_malloc(struct bench_thread *t, size_t n)
{
    char *p = malloc(n);
    if (p == NULL)
        bench_fail("out of memory");
    p[0] = (char)n;
    p[n - 1] = (char)n;
    t->operations++;
    return p;
}

void bench_add(const char *name, double value)
{
    size_t used = strlen(more);
    snprintf(more + used, sizeof more - used, " %s %.9g", name, value);
}

/* Of this program alone: ru_maxrss remembers the process that started it. */
static long peak_rss_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib;
}

void bench_report(uint64_t operations)
{
    double seconds = bench_now() - started;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("threads %ld ops_per_second %.0f max_rss_kib %ld cpu_seconds %.3f%s\n", bench_threads,
           (double)operations / seconds, peak_rss_kib(), cpu, more);
}

struct start {
    struct bench_thread thread;
    pthread_t id;
    void (*body)(struct bench_thread *);
};

static void *run_thread(void *argument)
{
    struct start *start = argument;
    start->body(&start->thread);
    return NULL;
}

void bench_run(void (*body)(struct bench_thread *))
{
    struct start *starts = bench_zeroed((size_t)bench_threads, sizeof *starts);
    uint64_t operations = 0;
    bench_start_clock();
    for (long i = 0; i < bench_threads; i++) {
        starts[i].body = body;
        starts[i].thread.number = (unsigned)i;
        starts[i].thread.random = (uint64_t)(bench_seed + i * 7919);
        if (pthread_create(&starts[i].id, NULL, run_thread, &starts[i]) != 0)
            bench_fail("no thread");
    }
    for (long i = 0; i < bench_threads; i++) {
        pthread_join(starts[i].id, NULL);
        operations += starts[i].thread.operations;
    }
    bench_report(operations);
}
