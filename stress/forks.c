/*
 * forks: fork from processes with busy threads; the child allocates at once.
 *
 *     forks [--seconds S] [--threads N] [--seed S]     a storm, with N busy threads: 10 s, 8 threads if not given
 *     forks --handlers [...]                            the same, with forks in signal handlers only
 *     forks --latency MIB                               how long fork takes with as much in small blocks
 *     forks --compare LIBRARY [--runs N]                that, of LIBRARY and of the system's, at three sizes
 *     forks --reuse [--threads N]                       what vanished threads held free is used again
 *     forks --chain DEPTH [--threads N]                 a child of a child of a child: memory stays bounded
 *
 * Why: other allocators take locks in fork and give them back in the child; hakmem has none, and
 * promises that the child of a process with any number of busy threads allocates at once, at no
 * cost in fork itself.
 *
 * How. Storm: busy threads allocate and free in all tiers, their own blocks and each other's; a
 * third of them fork as well, at the same time. A child allocates, checks and frees the blocks that
 * lie in the parent's slots, starts threads that do the same, forks on, and ends by exit or _exit.
 * Latency: the median of many forks, and of the time until such a child has allocated and ended.
 * Reuse: threads fill their heaps with free blocks, and vanish; the child's own threads allocate as
 * much. Chain: each generation has its busy threads, and is forked from while they run.
 *
 * How threads meet: blocks pass through slots by atomic exchange. What a vanished thread was
 * working with is not in a slot, so that the child leaves it alone.
 *
 * For any allocator, by LD_PRELOAD. A child that is not over after 30 s is killed, and that is a
 * failure. Exit status: 0 or 1.
 */
#include "signals_blocks.h"

#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOTS         1024u
#define THREADS_MOST  64u
#define CHILD_SECONDS 30
#define RUNS_MOST     100u
#define STACK_BYTES   (256u << 10)
#define FORKS_LEAST   10u /* or the storm proves nothing */
#define LATE_MOST     20  /* seconds more that it may take to make as many */

static _Atomic(void *) slots[SLOTS];
static _Atomic(void *) hands[THREADS_MOST]; /* of a chain's busy threads */
static _Atomic(bool) over;
static _Atomic(uint64_t) forks_done, forks_refused, handler_forks;
static __thread uint64_t randomness;
static __thread uint32_t number, turn;
static __thread bool in_child;

static double seconds = 10;
static uint64_t seed;
static unsigned threads = 8, runs = 5, depth_wanted;
static long latency_mib;
static const char *library, *program;
static enum { STORM, HANDLERS, LATENCY, COMPARE, REUSE, CHAIN } mode; /* in the order of main */

static double clock_seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

static void pause_for(double length)
{
    struct timespec t = {(time_t)length, (long)((length - (double)(time_t)length) * 1e9)};
    nanosleep(&t, NULL);
}

/* ---- what everybody does ---- */

static void act(void)
{
    _Atomic(void *) *slot = &slots[random_next(&randomness) % SLOTS];
    uint64_t dice = random_next(&randomness) % 8;
    void *p = NULL;
    if (dice < 5) {
        p = block_make(number, turn++, random_next(&randomness));
    } else if (dice == 5) {
        p = atomic_exchange(slot, NULL);
        if (p != NULL)
            p = block_resize(p, number, turn++, random_next(&randomness));
    }
    block_free(atomic_exchange(slot, p));
}

/* One of each tier, without luck. */
static void act_in_every_tier(void)
{
    static const size_t sizes[] = {16, 900, 5000, 30000, 60000, 900000, 6000000};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    unsigned char *p[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = malloc(sizes[i]);
        if (p[i] == NULL)
            complain(1, "forks: no memory for %zu bytes; failing", sizes[i]);
        p[i][0] = p[i][sizes[i] - 1] = (unsigned char)(i + 1);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        if (p[i][0] != i + 1 || p[i][sizes[i] - 1] != i + 1)
            complain(1, "forks: a block of %zu bytes is broken; failing", sizes[i]);
        free(p[i]);
    }
}

static void empty_slots(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        block_free(atomic_exchange(&slots[i], NULL));
}

static void start_thread(pthread_t *thread, void *(*body)(void *), uintptr_t argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (pthread_create(thread, &attributes, body, (void *)argument) != 0)
        complain(1, "forks: no thread; failing");
    pthread_attr_destroy(&attributes);
}

static void begin_thread(uint32_t as)
{
    number = as;
    randomness = seed * 31 + as * 1000003u + (uint64_t)getpid();
}

/* ---- children ---- */

/* Fork is refused where there are too many processes: then there is no child to ask. */
static bool expect_success(pid_t pid, const char *whose)
{
    int status = 0;
    double until = now() + CHILD_SECONDS;
    if (pid < 0) {
        atomic_fetch_add(&forks_refused, 1);
        return false;
    }
    for (pid_t got; (got = waitpid(pid, &status, WNOHANG)) != pid; pause_for(0.0002)) {
        if (got < 0 && errno != EINTR)
            complain(1, "forks: waitpid for %s failed with errno %d; failing", whose, errno);
        if (now() < until)
            continue;
        kill(pid, SIGKILL);
        complain(1, "forks: %s (pid %d) was not over after %d s; failing", whose, (int)pid,
                 CHILD_SECONDS);
    }
    if (status != 0)
        complain(1, "forks: %s ended with %s %d; failing", whose,
                 WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    atomic_fetch_add(&forks_done, 1);
    return true;
}

static void *thread_of_child(void *argument)
{
    begin_thread((uint32_t)(uintptr_t)argument);
    act_in_every_tier();
    for (int i = 0; i < 200; i++)
        act();
    return NULL;
}

static void child_body(unsigned generations);

static void fork_once(unsigned generations, const char *whose)
{
    pid_t pid = fork();
    if (pid == 0)
        child_body(generations);
    expect_success(pid, whose);
}

/* Does not return. */
static void child_body(unsigned generations)
{
    pthread_t thread[2];
    in_child = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    act_in_every_tier();
    for (int i = 0; i < 300; i++)
        act();
    for (unsigned i = 0; i < 2; i++)
        start_thread(&thread[i], thread_of_child, 200 + i);
    if (generations > 0)
        fork_once(generations - 1, "a grandchild");
    for (unsigned i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    empty_slots();
    act_in_every_tier();
    if (random_next(&randomness) % 2 == 0)
        exit(0);
    _exit(0);
}

/* ---- the storm ---- */

static void *busy(void *argument)
{
    begin_thread((uint32_t)(uintptr_t)argument);
    block_in_hand = &hands[number];
    while (!atomic_load_explicit(&over, memory_order_relaxed))
        act();
    return NULL;
}

static void *busy_forker(void *argument)
{
    begin_thread((uint32_t)(uintptr_t)argument);
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        for (uint64_t i = random_next(&randomness) % 2000; i > 0; i--)
            act();
        fork_once((unsigned)(random_next(&randomness) % 3), "a child");
    }
    return NULL;
}

static void start_busy(pthread_t *thread, bool forking)
{
    for (unsigned i = 0; i < threads; i++)
        start_thread(&thread[i], forking && i % 3 == 0 ? busy_forker : busy, i);
}

static void join_busy(pthread_t *thread)
{
    atomic_store(&over, true);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    empty_slots();
}

/* A fork takes 0.2 s where page tables are dear to copy: it goes on until there were enough. */
static bool lasts(double since, unsigned long long forks)
{
    double lasted = now() - since;
    return lasted < seconds || (forks < FORKS_LEAST && lasted < seconds + LATE_MOST);
}

static int storm(void)
{
    pthread_t thread[THREADS_MOST];
    printf("forks: a storm of %g s, %u threads, seed %llu\n", seconds, threads,
           (unsigned long long)seed);
    fflush(stdout);
    start_busy(thread, true);
    for (double since = now(); lasts(since, forks_done);)
        pause_for(0.01);
    join_busy(thread);
    printf("forks: %llu forks of the first process (%llu refused), peak %ld KiB\n",
           (unsigned long long)forks_done, (unsigned long long)forks_refused, status_kib("VmHWM:"));
    if (forks_done < FORKS_LEAST)
        complain(1, "forks: only %llu forks; failing", (unsigned long long)forks_done);
    return 0;
}

/* ---- forks in handlers ---- */

/* The child goes on with what was interrupted, in a thread that is alone. */
static void fork_in_handler(int signal_number)
{
    (void)signal_number;
    int saved = errno;
    if (in_child)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        in_child = true;
        act();
    } else {
        expect_success(pid, "a handler's child");
        atomic_fetch_add(&handler_forks, pid > 0);
    }
    errno = saved;
}

static void *busy_interrupted(void *argument)
{
    begin_thread((uint32_t)(uintptr_t)argument);
    while (!atomic_load_explicit(&over, memory_order_relaxed) && !in_child)
        act();
    if (in_child)
        child_body((unsigned)(random_next(&randomness) % 2));
    return NULL;
}

/* Not SA_NODEFER, and in no thread that is inside the C library's fork or pthread_create: those
 * have locks. */
static int storm_of_handlers(void)
{
    pthread_t thread[THREADS_MOST];
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    printf("forks: in handlers, %g s, %u threads, seed %llu\n", seconds, threads,
           (unsigned long long)seed);
    fflush(stdout);
    sigaction(SIGALRM, &action, NULL);
    for (unsigned i = 0; i < threads; i++)
        start_thread(&thread[i], busy_interrupted, i);
    for (double since = now(); lasts(since, handler_forks); pause_for(0.002))
        pthread_kill(thread[random_next(&randomness) % threads], SIGALRM);
    join_busy(thread);
    printf("forks: %llu forks by handlers (%llu refused)\n", (unsigned long long)handler_forks,
           (unsigned long long)forks_refused);
    if (handler_forks < FORKS_LEAST)
        complain(1, "forks: only %llu forks by handlers; failing",
                 (unsigned long long)handler_forks);
    return 0;
}

/* ---- latency ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

static void fill_with_small_blocks(size_t bytes)
{
    static const size_t sizes[] = {32, 64, 100, 200, 48, 400};
    for (size_t i = 0, held = 0; held < bytes; i++) {
        size_t n = sizes[i % 6];
        held += n;
        memset(malloc(n), 1, n);
    }
}

/* Microseconds: of fork itself, the thread's own, so that other processes don't count (fork waits
 * for nobody here); and until a child that allocates in every tier is over. */
static void time_fork(double *fork_us, double *child_us)
{
    double start = now(), own = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    pid_t pid = fork();
    if (pid == 0) {
        act_in_every_tier();
        _exit(0);
    }
    *fork_us = (clock_seconds(CLOCK_THREAD_CPUTIME_ID) - own) * 1e6;
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        complain(1, "forks: a child ended with status %d; failing", status);
    *child_us = (now() - start) * 1e6;
}

static int latency(void)
{
    enum { FORKS = 41 };
    double fork_us[FORKS], child_us[FORKS];
    fill_with_small_blocks((size_t)latency_mib << 20);
    for (unsigned i = 0; i < FORKS; i++)
        time_fork(&fork_us[i], &child_us[i]);
    printf("%.1f %.1f %ld\n", median(fork_us, FORKS), median(child_us, FORKS),
           status_kib("VmRSS:"));
    return 0;
}

struct figures {
    double fork_us, child_us, rss_kib;
};

static struct figures run_latency(const char *preload, unsigned mib)
{
    char command[1000];
    struct figures f;
    snprintf(command, sizeof command, "LD_PRELOAD='%s' '%s' --latency %u", preload, program, mib);
    FILE *output = popen(command, "r");
    if (output == NULL || fscanf(output, "%lf %lf %lf", &f.fork_us, &f.child_us, &f.rss_kib) != 3 ||
        pclose(output) != 0)
        complain(1, "forks: %s failed; failing", command);
    return f;
}

static void print_ratio(const char *what, double ours[], double systems[])
{
    double a = median(ours, runs), b = median(systems, runs);
    printf("  %s %.0f / %.0f = %.2f", what, a, b, a / b);
}

/* In turn, so that both meet the same machine. */
static void compare_at(unsigned mib)
{
    double fork_us[2][RUNS_MOST], child_us[2][RUNS_MOST], rss_kib[2][RUNS_MOST];
    for (unsigned i = 0; i < runs; i++) {
        for (unsigned who = 0; who < 2; who++) {
            struct figures f = run_latency(who == 0 ? library : "", mib);
            fork_us[who][i] = f.fork_us;
            child_us[who][i] = f.child_us;
            rss_kib[who][i] = f.rss_kib;
        }
    }
    printf("%4u MiB:", mib);
    print_ratio("fork, us", fork_us[0], fork_us[1]);
    print_ratio("to the child's end", child_us[0], child_us[1]);
    print_ratio("resident KiB", rss_kib[0], rss_kib[1]);
    putchar('\n');
    fflush(stdout);
}

static int compare(void)
{
    printf("forks: medians of %u runs of each in turn, ratios to the system allocator's\n", runs);
    static const unsigned sizes[] = {10, 100, 1000};
    for (unsigned i = 0; i < 3; i++)
        compare_at(sizes[i]);
    return 0;
}

/* ---- reuse ---- */

static _Atomic(unsigned) filled;

/* As much of each class as a heap may keep. */
static void fill_and_free(void)
{
    enum { CLASSES = 16, PIECES = 3072 };
    static __thread void *p[PIECES];
    for (unsigned i = 0; i < CLASSES; i++) {
        size_t n = (size_t)(i % 2 == 0 ? 16 : 24) << i / 2, pieces = 49152 / n;
        for (size_t k = 0; k < pieces; k++)
            p[k] = memset(malloc(n), 1, n);
        for (size_t k = 0; k < pieces; k++)
            free(p[k]);
    }
}

static void *fill_and_stay(void *argument)
{
    (void)argument;
    fill_and_free();
    atomic_fetch_add(&filled, 1);
    while (!atomic_load(&over))
        pause_for(0.001);
    return NULL;
}

static void fill_threads(void)
{
    pthread_t thread[THREADS_MOST];
    atomic_store(&filled, 0);
    for (unsigned i = 0; i < threads; i++)
        start_thread(&thread[i], fill_and_stay, i);
    while (atomic_load(&filled) < threads)
        pause_for(0.001);
}

/* The threads stay till the end, so each has a heap of its own. */
static int reuse(void)
{
    long before = status_kib("VmRSS:"), before_size = status_kib("VmSize:");
    fill_threads();
    long held = status_kib("VmRSS:") - before, held_size = status_kib("VmSize:") - before_size;
    pid_t pid = fork();
    if (pid == 0) {
        long rss = status_kib("VmRSS:"), size = status_kib("VmSize:");
        fill_threads();
        long more = status_kib("VmRSS:") - rss, more_size = status_kib("VmSize:") - size;
        printf("forks: %u threads hold %ld KiB resident, %ld mapped; the child's add %ld and %ld\n",
               threads, held, held_size, more, more_size);
        fflush(stdout);
        _exit(more > held / 2 || more_size > held_size / 2 ? 1 : 0);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        complain(1, "forks: what vanished threads held was not used again; failing");
    return 0;
}

/* ---- chain ---- */

#define DEPTH_MOST         1000u
#define CHAIN_KIB_A_THREAD 512 /* 40 to 370 as measured: the shorter the chain, the wider */

struct chain_report {
    long rss_kib[DEPTH_MOST + 1], size_kib[DEPTH_MOST + 1];
};

static struct chain_report *chain_report; /* shared by the processes; each writes its own place */

static void wait_for_rest(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        complain(1, "forks: a generation's child ended with status %d; failing", status);
}

/* What the vanished were filling or checking. What they were moving from hand to slot is lost by
 * us. */
static void empty_hands(void)
{
    for (unsigned i = 0; i < THREADS_MOST; i++)
        free(atomic_exchange(&hands[i], NULL));
}

/* Its threads are busy for a while, and while its child is made. The processes before it wait. */
static void generation(unsigned depth)
{
    pthread_t thread[THREADS_MOST];
    atomic_store(&over, false);
    start_busy(thread, false);
    pause_for(seconds / (depth_wanted + 1));
    chain_report->rss_kib[depth] = status_kib("VmRSS:");
    chain_report->size_kib[depth] = status_kib("VmSize:");
    pid_t pid = depth < depth_wanted ? fork() : -1;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        empty_hands();
        generation(depth + 1);
        _exit(0);
    }
    join_busy(thread);
    if (depth < depth_wanted)
        wait_for_rest(pid);
}

/* What a generation adds from a fifth of the chain on: there, the caches are full. */
static int chain(void)
{
    chain_report =
        mmap(NULL, sizeof *chain_report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (chain_report == MAP_FAILED)
        complain(1, "forks: no memory; failing");
    generation(0);
    unsigned from = depth_wanted / 5;
    long *rss = chain_report->rss_kib, *size = chain_report->size_kib;
    for (unsigned i = 0; i <= depth_wanted; i += i < from ? from : depth_wanted / 5)
        printf("forks: generation %3u: %7ld KiB resident, %8ld mapped\n", i, rss[i], size[i]);
    long bound = (long)threads * CHAIN_KIB_A_THREAD;
    long added = (rss[depth_wanted] - rss[from]) / (long)(depth_wanted - from);
    printf("forks: %u threads: a generation adds %ld KiB (bound: %ld)\n", threads, added, bound);
    fflush(stdout);
    if (added > bound)
        complain(1, "forks: a generation adds %ld KiB, more than %ld; failing", added, bound);
    return 0;
}

/* ---- main ---- */

static const struct argp_option options[] = {
    {"seconds", 't', "S", 0, "how long (10)", 0},
    {"threads", 'n', "N", 0, "busy threads, 1 to 64 (8)", 0},
    {"seed", 's', "S", 0, "of the random choices (from the clock)", 0},
    {"handlers", 'h', NULL, 0, "fork in signal handlers only", 0},
    {"latency", 'l', "MIB", 0, "print fork's time and a child's in us, and the resident KiB", 0},
    {"compare", 'c', "LIBRARY", 0, "--latency with LIBRARY preloaded and without, in turn", 0},
    {"runs", 'r', "N", 0, "of --compare (5)", 0},
    {"reuse", 'u', NULL, 0, "is what vanished threads held used again?", 0},
    {"chain", 'd', "DEPTH", 0, "of generations, 5 to 1000", 0},
    {0},
};

static unsigned within(const char *value, unsigned least, unsigned most, const char *what)
{
    long n = atol(value);
    if (n < (long)least || n > (long)most)
        complain(1, "forks: %s %s is not from %u to %u; ending", what, value, least, most);
    return (unsigned)n;
}

static error_t parse_mode(int key, char *value)
{
    switch (key) {
    case 'h':
        mode = HANDLERS;
        return 0;
    case 'l':
        mode = LATENCY;
        latency_mib = atol(value);
        return 0;
    case 'c':
        mode = COMPARE;
        library = value;
        return 0;
    case 'u':
        mode = REUSE;
        return 0;
    case 'd':
        mode = CHAIN;
        depth_wanted = within(value, 5, DEPTH_MOST, "depth");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *value, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case 't':
        seconds = atof(value);
        return 0;
    case 'n':
        threads = within(value, 1, THREADS_MOST, "threads");
        return 0;
    case 's':
        seed = strtoull(value, NULL, 0);
        return 0;
    case 'r':
        runs = within(value, 1, RUNS_MOST, "runs");
        return 0;
    default:
        return parse_mode(key, value);
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {options, parse, NULL, "fork with busy threads",
                                     NULL,    NULL,  NULL};
    static int (*const modes[])(void) = {storm, storm_of_handlers, latency, compare, reuse, chain};
    seed = (uint64_t)(now() * 1e9);
    program = argv[0];
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    begin_thread(100);
    return modes[mode]();
}
