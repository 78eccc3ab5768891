/*
 * park: a thread that is stopped anywhere inside the allocator stops no other.
 *
 *     park [--stops N] [--seed S] [--victims 1|2] [--kill] [--deadline MS] [--expect-stalls] LIBRARY|system
 *
 * Why: it is hakmem's promise, and scheduling alone tests it too rarely: few threads are preempted
 * inside a slow path, and none for long. How: a workload (park_work.c) runs under the preloaded
 * allocator, any one. A thread of it is stopped with ptrace, at a random instruction of a random
 * function (a breakpoint on what was reached least so far), or whenever it is found inside, mostly
 * at once, else some instructions on. As long as it is stopped, each other worker must complete
 * small, large and huge allocations, frees of other threads' blocks and statistics, and a thread
 * that starts meanwhile must allocate and exit. Then it goes on; or, with --kill, never.
 *
 * A stall is a worker without progress for the deadline: asleep in a lock, or spinning (it had
 * processor time). A worker that the machine gave no time is waited for. Exit status: 0, 1 if
 * anything stalled (with --expect-stalls: the other way round), 2 if the test could not be made.
 *
 * How long: 2 to 15 ms a stop on two processors; a stall takes the deadline. How threads meet: see
 * park_trace.h; park itself has one.
 */
#include "park_command.h"
#include "park_shared.h"
#include "park_trace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS         4
#define NEWCOMERS       4
#define KILLED_MOST     32  /* threads of one process, before a fresh one */
#define STOPS_A_PROCESS 100 /* so that what happens once a process is met too */
#define PLANTS          12
#define PLANT_US        20000
#define STEPS_MOST      2000
#define ENOUGH_CPU_NS   50000000u /* with as much, a worker without progress is spinning */
#define ORDINARY_US     500000
#define STARVED_MOST    10u /* deadlines */

static struct {
    unsigned stops, victims;
    bool kill;
    char *preload;
} options = {.stops = 100, .victims = 1};

static struct workload workload;
static struct shared *shared;
static bool running;
static unsigned stops_here, killed_here, stops_done;
static unsigned stalls, stalled_windows, starved, in_syscalls;
static uint64_t worst_stopped, worst_ordinary;
static uint64_t rng;

static uint64_t below(uint64_t bound)
{
    return park_below(&rng, bound);
}

/* ---- the process ---- */

static uint64_t total_of(const struct slot *s)
{
    uint64_t total = 0;
    for (unsigned k = 0; k < KINDS; k++)
        total += s->done[k];
    return total;
}

/* Of what nobody waits for: all go on. */
static void dispatch(struct trace_event e)
{
    if (e.kind == TRACE_DIED) {
        fprintf(stderr, "park: the workload died under %s (seed %lu, stop %u); giving up\n",
                command.library, command.seed, stops_done);
        exit(2);
    }
    if (e.kind == TRACE_TRAP || e.kind == TRACE_HIT || e.kind == TRACE_STEPPED ||
        e.kind == TRACE_STOPPED)
        trace_continue(e.tid);
}

static void run_for(unsigned us)
{
    uint64_t end = park_now() + us * 1000ull;
    for (uint64_t now = park_now(); now < end; now = park_now())
        dispatch(trace_next((unsigned)((end - now) / 1000 + 1)));
}

/* Who is stopped before there are others stops nobody. */
static bool all_have_started(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        if (total_of(&shared->slot[i]) == 0)
            return false;
    return true;
}

static void process_start(void)
{
    memset(shared, 0, sizeof *shared);
    shared->seed = below(UINT64_MAX);
    shared->workers_wanted = WORKERS;
    shared->newcomers_most = NEWCOMERS;
    trace_start(workload.program, command.library, options.preload, workload.fd);
    stops_here = killed_here = 0;
    running = true;
    while (!all_have_started())
        run_for(1000);
}

static void keep_worst(void)
{
    for (unsigned i = 0; i < PARK_SLOTS; i++)
        if (shared->slot[i].worst_stopped > worst_stopped)
            worst_stopped = shared->slot[i].worst_stopped;
}

static void process_end(void)
{
    keep_worst();
    trace_end();
    running = false;
}

/* ---- catching a thread inside ---- */

static bool wait_for(pid_t tid, enum trace_kind kind, unsigned us)
{
    uint64_t end = park_now() + us * 1000ull;
    for (;;) {
        struct trace_event e = trace_next(us);
        if (e.kind == kind && e.tid == tid)
            return true;
        dispatch(e);
        if (park_now() > end || (e.kind == TRACE_EXIT && e.tid == tid))
            return false;
    }
}

/* What was tried in vain (it never runs, or not often) comes after what was not. */
static unsigned weight(const struct function *f)
{
    return 8 * f->stops + f->tries;
}

/* The least reached of eight. */
static const struct place *choose_place(void)
{
    const struct map *m = trace_map();
    struct function *best = NULL;
    for (unsigned i = 0; i < 8; i++) {
        struct function *f = &m->function[below(m->functions)];
        if (best == NULL || weight(f) < weight(best))
            best = f;
    }
    best->tries++;
    return &m->place[m->by_function[best->first + below(best->count)]];
}

static pid_t catch_at_breakpoint(void)
{
    for (unsigned i = 0; i < PLANTS; i++)
        trace_plant(choose_place());
    uint64_t end = park_now() + PLANT_US * 1000ull;
    while (park_now() < end) {
        struct trace_event e = trace_next(PLANT_US);
        if (e.kind == TRACE_HIT)
            return e.tid;
        dispatch(e);
    }
    trace_clear();
    return 0;
}

static pid_t random_worker(void)
{
    uint32_t used = shared->slots_used < PARK_SLOTS ? shared->slots_used : PARK_SLOTS;
    return used != 0 ? shared->slot[below(used)].tid : 0;
}

static bool is_victim(const pid_t *victim, unsigned victims, pid_t tid)
{
    for (unsigned i = 0; i < victims; i++)
        if (victim[i] == tid)
            return true;
    return false;
}

static pid_t catch_anywhere(void)
{
    pid_t tid = random_worker();
    uint64_t ran;
    run_for((unsigned)below(2000));
    if (tid == 0 || trace_state(tid, &ran) == 't')
        return 0;
    trace_interrupt(tid);
    if (!wait_for(tid, TRACE_STOPPED, 100000))
        return 0;
    if (trace_where(tid).place != NULL)
        return tid;
    trace_continue(tid);
    return 0;
}

/* Some instructions on, and further until it is inside again. False: it is not, or it waits; it
 * goes on. */
static bool step_on(pid_t tid)
{
    unsigned steps = below(4) == 0 ? (unsigned)below(STEPS_MOST) : (unsigned)below(4);
    for (unsigned i = 0; i < steps || trace_where(tid).place == NULL; i++) {
        if (i == 2 * STEPS_MOST) {
            trace_continue(tid);
            return false;
        }
        trace_step(tid);
        if (!wait_for(tid, TRACE_STEPPED, 50000)) {
            trace_interrupt(tid); /* its stop is dispatched */
            return false;
        }
    }
    return true;
}

static pid_t catch_one(void)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        pid_t tid = below(4) == 0 ? catch_anywhere() : catch_at_breakpoint();
        if (tid != 0 && step_on(tid))
            return tid;
    }
    return 0;
}

/* ---- while it is stopped ---- */

struct watch {
    uint64_t done[KINDS];
    uint64_t total, ran_ns; /* at the last deadline */
};

static struct watch watches[PARK_SLOTS];
static pid_t victims[KILLED_MOST + 2]; /* the killed first */
static unsigned victim_count;

static struct slot *slot_of(pid_t tid)
{
    for (unsigned i = 0; i < PARK_SLOTS; i++)
        if (shared->slot[i].tid == tid)
            return &shared->slot[i];
    return NULL;
}

static bool is_watched(const struct slot *s)
{
    return s->tid != 0 && !is_victim(victims, victim_count, s->tid);
}

static void watch_begin(void)
{
    for (unsigned i = 0; i < PARK_SLOTS; i++) {
        struct slot *s = &shared->slot[i];
        for (unsigned k = 0; k < KINDS; k++)
            watches[i].done[k] = s->done[k];
        watches[i].total = total_of(s);
        if (s->tid != 0)
            trace_state(s->tid, &watches[i].ran_ns);
    }
}

/* Each kind twice: one may have been under way, past what could stall. */
static bool slot_is_through(unsigned i)
{
    const struct slot *s = &shared->slot[i];
    for (unsigned k = 0; k < KINDS; k++)
        if (is_watched(s) && s->done[k] < watches[i].done[k] + 2)
            return false;
    return true;
}

static bool all_are_through(void)
{
    for (unsigned i = 0; i < PARK_SLOTS; i++)
        if (!slot_is_through(i))
            return false;
    return true;
}

enum verdict { THROUGH, WAIT, STALLED };

/* At a deadline. */
static enum verdict judge(unsigned i, const char **how)
{
    struct slot *s = &shared->slot[i];
    struct watch *w = &watches[i];
    uint64_t ran = 0, total = total_of(s);
    if (slot_is_through(i))
        return THROUGH;
    char state = trace_state(s->tid, &ran);
    bool spinning = ran - w->ran_ns > ENOUGH_CPU_NS;
    *how = state == 'S' ? "asleep" : "spinning";
    if (total == w->total && (state == 'S' || spinning))
        return STALLED;
    w->total = total;
    return WAIT;
}

static void say_stall(const char *who, const char *how)
{
    stalls++;
    printf("  stall: %s %s for %u ms; stopped:", who, how, command.deadline_ms);
    for (unsigned v = 0; v < victim_count; v++) {
        struct where where = trace_where(victims[v]);
        printf(" %s%s", where.place != NULL ? map_say(trace_map(), where.place) : "?",
               where.in_syscall ? ", in a system call" : "");
    }
    printf("\n");
}

static void keep_gap(const struct slot *s)
{
    uint64_t since = shared->stopped_since, last = s->last_ns, now = park_now();
    uint64_t gap = now - (last > since ? last : since);
    if (is_watched(s) && last != 0 && gap > worst_stopped)
        worst_stopped = gap;
}

/* True if nobody is to be waited for any more. */
static bool judge_all(bool newcomer_seen, bool last)
{
    bool wait = false, any = false;
    for (unsigned i = 0; i < PARK_SLOTS; i++) {
        const char *how = "";
        enum verdict v = judge(i, &how);
        wait = wait || v == WAIT;
        any = any || v == STALLED;
        if (v == STALLED)
            say_stall("a worker", how);
    }
    if (!any && !wait && !newcomer_seen && last)
        say_stall("every new thread", "unfinished");
    if (any || (last && !newcomer_seen))
        trace_say_threads(stdout);
    if (wait && last)
        starved++;
    return any || last || (!wait && newcomer_seen);
}

static bool is_newcomers_exit(struct trace_event e, unsigned epoch)
{
    return e.kind == TRACE_EXIT && e.began == epoch;
}

/* Until all others have done all there is to do, or for the deadline. */
static void watch(unsigned epoch)
{
    bool newcomer_seen = false;
    for (unsigned round = 1; round <= STARVED_MOST; round++) {
        uint64_t end = park_now() + command.deadline_ms * 1000000ull;
        while (park_now() < end) {
            struct trace_event e = trace_next(500);
            newcomer_seen = newcomer_seen || is_newcomers_exit(e, epoch);
            dispatch(e);
            if (newcomer_seen && all_are_through())
                return;
        }
        if (judge_all(newcomer_seen, round == STARVED_MOST))
            return;
    }
}

/* ---- a stop ---- */

static void note_stop(pid_t tid)
{
    struct where where = trace_where(tid);
    struct map *m = trace_map();
    for (size_t k = 0; k < where.place->depth; k++)
        m->function[m->stack[where.place->first + k]].stops++;
    in_syscalls += where.in_syscall;
    victims[victim_count++] = tid;
}

static void watch_window(void)
{
    static unsigned epoch;
    unsigned before = stalls;
    trace_epoch(++epoch);
    shared->stopped_since = park_now();
    watch_begin();
    watch(epoch);
    for (unsigned i = 0; i < PARK_SLOTS; i++)
        keep_gap(&shared->slot[i]);
    shared->stopped_since = 0;
    stalled_windows += stalls != before;
}

static void let_go(pid_t tid)
{
    struct slot *s = slot_of(tid);
    if (s != NULL)
        s->was_stopped = true;
    trace_continue(tid);
    victim_count--;
}

/* It stays where it is; the workload starts another. */
static void leave(pid_t tid)
{
    if (slot_of(tid) != NULL)
        atomic_fetch_sub(&shared->workers, 1);
    atomic_fetch_add(&shared->newcomers_most, 1);
    killed_here++;
}

static void one_stop(void)
{
    unsigned kept = victim_count;
    run_for((unsigned)below(1000));
    while (victim_count < kept + options.victims) {
        pid_t tid = catch_one();
        if (tid == 0)
            break;
        note_stop(tid);
        stops_done++;
        stops_here++;
    }
    if (victim_count == kept) {
        fprintf(stderr, "park: no thread is met inside %s (seed %lu, stop %u); giving up\n",
                command.library, command.seed, stops_done);
        exit(2);
    }
    watch_window();
    for (unsigned v = victim_count; v-- > kept;)
        if (options.kill)
            leave(victims[v]);
        else
            let_go(victims[v]);
}

static bool is_used_up(void)
{
    return stops_here >= STOPS_A_PROCESS || killed_here + options.victims > KILLED_MOST ||
           shared->slots_used >= PARK_SLOTS;
}

static void campaign(void)
{
    while (stops_done < options.stops) {
        if (!running)
            process_start();
        one_stop();
        if (is_used_up() || (options.kill && stalls != 0)) {
            process_end();
            victim_count = 0;
        }
        if (options.kill && stalls != 0)
            return; /* who was stopped for good stalls all that follows */
    }
    if (running)
        process_end();
}

/* What a worker goes without progress for where nothing is stopped: the machine's part. */
static void measure_ordinary(void)
{
    process_start();
    run_for(ORDINARY_US);
    for (unsigned i = 0; i < PARK_SLOTS; i++)
        if (shared->slot[i].worst_ordinary > worst_ordinary)
            worst_ordinary = shared->slot[i].worst_ordinary;
}

/* ---- the report ---- */

static int by_stops(const void *a, const void *b)
{
    const struct function *f = a, *g = b;
    if (f->stops != g->stops)
        return f->stops < g->stops ? 1 : -1;
    return strcmp(f->name, g->name);
}

static bool has_file(const struct function *f)
{
    return strchr(f->name, ' ') != NULL;
}

static void say_places(void)
{
    struct map *m = trace_map();
    size_t reached = 0, all = 0;
    qsort(m->function, m->functions, sizeof *m->function, by_stops);
    bool files = has_file(&m->function[0]);
    printf("stopped in, inlined parts included:\n");
    for (; reached < m->functions && m->function[reached].stops != 0; reached++)
        printf("%6u %s\n", m->function[reached].stops, m->function[reached].name);
    printf("never stopped in:\n");
    for (size_t i = all = reached; i < m->functions; i++) {
        if (files && !has_file(&m->function[i]))
            continue; /* padding */
        printf("       %s\n", m->function[i].name);
        all++;
    }
    printf("functions: %zu of %zu\n", reached, all);
}

static int report(double seconds)
{
    say_places();
    printf("park: %s: %u stops%s in %.0f s (%u in system calls), seed %lu: %u with a stall (%u "
           "threads stalled), "
           "%u starved by the machine; a worker's worst time without progress %.1f ms, with no "
           "thread stopped "
           "%.1f ms\n",
           command.library, stops_done, options.kill ? " for good" : "", seconds, in_syscalls,
           command.seed, stalled_windows, stalls, starved, (double)worst_stopped / 1e6,
           (double)worst_ordinary / 1e6);
    return (stalls != 0) != command.expect_stalls;
}

/* ---- the command line ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case 'n':
        options.stops = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'v':
        options.victims = *text == '2' ? 2 : 1;
        break;
    case 'p':
        options.preload = text;
        break;
    case 'k':
        options.kill = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option option_list[] = {
    {"stops", 'n', "N", 0, "how many threads to stop (100)", 0},
    {"victims", 'v', "1|2", 0, "how many are stopped at the same time (1)", 0},
    {"preload", 'p', "FILE", 0, "preload this too (a proxy of LIBRARY)", 0},
    {"kill", 'k', NULL, 0, "who was stopped never goes on", 0},
    {0}};

int main(int argc, char **argv)
{
    command_read(argc, argv, option_list, parse,
                 "Stops threads inside an allocator; no other may stall.");
    rng = command.seed * 0x9e3779b97f4a7c15u | 1;
    workload = workload_open(argv[0], "park_work", sizeof *shared);
    shared = workload.shared;
    uint64_t began = park_now();
    measure_ordinary();
    campaign();
    return report((double)(park_now() - began) / 1e9);
}
