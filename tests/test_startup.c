/*
 * test_startup.c: what the preload costs a program that does nothing: /bin/true, with it and
 * without, in turn.
 *
 *     test_startup LIBHAKMEM          100 runs each, about a second; and it gets no huge pages unasked
 *
 * A child's peak of resident memory is read as it exits, under ptrace: what wait4 tells includes
 * the process that started it. The time is printed, and only checked against what no noise
 * explains.
 */
#include "testing.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS            100
#define MORE_KIB_MOST   1024
#define HUGE_PAGE_BYTES (2ul << 20)
#define MORE_MS_MOST    5.0 /* meant: 0.3 */

static char preload[4096] = "LD_PRELOAD=";

static pid_t start(char *const *environment, bool traced)
{
    char *const arguments[] = {"true", NULL};
    pid_t child = fork();
    if (child != 0)
        return child;
    if (traced)
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execve("/bin/true", arguments, environment);
    _exit(127);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static double run_ms(char *const *environment)
{
    int status;
    double start_ms = now_ms();
    pid_t child = start(environment, false);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return now_ms() - start_ms;
}

static double peak_kib_of(pid_t child)
{
    char path[64], line[128];
    double kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", child);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %lf", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib;
}

static double peak_kib(char *const *environment)
{
    int status;
    pid_t child = start(environment, true);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSTOPPED(status)); /* by its execve */
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACEEXIT), 0);
    assert_int_equal(ptrace(PTRACE_CONT, child, NULL, NULL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    double kib = peak_kib_of(child);
    ptrace(PTRACE_CONT, child, NULL, NULL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return kib;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of runs in turn; returns by how much that with the preload is more. */
static double difference(double (*measure)(char *const *), const char *what)
{
    static double without[RUNS], with[RUNS];
    char *const bare[] = {NULL};
    char *const preloaded[] = {preload, NULL};
    for (int i = 0; i < RUNS; i++) {
        without[i] = measure(bare);
        with[i] = measure(preloaded);
    }
    qsort(without, RUNS, sizeof *without, compare);
    qsort(with, RUNS, sizeof *with, compare);
    printf("/bin/true: %.2f %s without the preload, %.2f with it\n", without[RUNS / 2], what,
           with[RUNS / 2]);
    return with[RUNS / 2] - without[RUNS / 2];
}

static void test_resident(void **state)
{
    (void)state;
    double more = difference(peak_kib, "KiB");
    assert_true(more > 0); /* else nothing was loaded, or nothing measured */
    assert_true(more <= MORE_KIB_MOST);
}

static void test_time(void **state)
{
    (void)state;
    assert_true(difference(run_ms, "ms") <= MORE_MS_MOST);
}

/* A line of /proc/PID/smaps that begins a mapping without a file or a name. */
static bool begins_anonymous(const char *line, unsigned long *bytes)
{
    unsigned long start, end, inode;
    int name = 0;
    if (sscanf(line, "%lx-%lx %*s %*s %*s %lu %n", &start, &end, &inode, &name) != 3)
        return false;
    *bytes = inode == 0 && line[name] == '\0' ? end - start : 0;
    return true;
}

/* Where the system gives huge pages unasked, each costs 2 MiB: nothing that is mapped at the start
 * may get one. */
static void test_no_huge_pages(void **state)
{
    (void)state;
    char command[sizeof preload + 64], line[256];
    int advised = 0;
    unsigned long bytes = 0, resident_kib = 0;
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) != 0)
        skip();
    snprintf(command, sizeof command, "%s cat /proc/self/smaps", preload);
    FILE *maps = popen(command, "r");
    while (fgets(line, sizeof line, maps) != NULL) {
        if (begins_anonymous(line, &bytes) || sscanf(line, "Rss: %lu", &resident_kib) == 1 ||
            strncmp(line, "VmFlags:", 8) != 0 || bytes < HUGE_PAGE_BYTES || resident_kib == 0)
            continue;
        assert_non_null(strstr(line, " nh"));
        advised++;
    }
    assert_int_equal(pclose(maps), 0);
    assert_true(advised >= 1); /* the registry's leaf and a segment, side by side or not */
}

int main(int argc, char **argv)
{
    if (argc != 2 || access(argv[1], R_OK) != 0) {
        fprintf(stderr, "test_startup: wants the path of the library to load; stopping\n");
        return 2;
    }
    strncat(preload, argv[1], sizeof preload - strlen(preload) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_no_huge_pages),
    };
    return RUN_TESTS(tests);
}
