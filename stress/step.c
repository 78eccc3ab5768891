/*
 * step: at each instruction of a malloc and a free, on each slow path, the thread is stopped and
 * another one allocates and frees.
 *
 *     step [--every N] [--seed S] [--deadline MS] [--expect-stalls] LIBRARY|system
 *
 * Why: park stops threads at random; here no instruction is left out. How: the workload
 * (step_work.c) is single-stepped through one call after another. At every instruction, or every
 * Nth from a random one on, the other thread is asked for a set of calls in all tiers, among them
 * frees of blocks of the stepped thread's slabs, and must answer before the next step. A scenario
 * is repeated until it has met each function that it is there for; if it does not, that is a
 * failure.
 *
 * Exit status: 0, 1 for a stall or an unmet function (with --expect-stalls: 0 for a stall, and it
 * ends after five), 2 if the test could not be made. How long: 20 to 100 us an instruction, some
 * 500,000 in all; with --every 7, which leaves the statistics out, below 10 s. How threads meet:
 * see park_trace.h and step_shared.h.
 */
#include "park_command.h"
#include "park_shared.h"
#include "park_trace.h"
#include "step_shared.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEAT_MOST 600u
/* hakmem is lock-free, not wait-free: a CAS that the other thread is asked to make fail, each time,
 * never succeeds. So in a loop it is asked as often as this at an instruction, in one call. */
#define ASKED_MOST 64u
/* Where stalls are expected, no more is wanted than that they are seen. */
#define STALLS_ENOUGH 5u

static unsigned every = 1; /* --every */
static struct step_shared *shared;

static struct tally {
    unsigned calls;
    uint64_t instructions, asked;
    bool stalled;
} tally; /* of the scenario under way */

static uint64_t all_instructions, all_asked, phase_of_sample, worst_ns;
static unsigned stalls, unmet;
static char name[64], from[64],
    expects[256];         /* copies: a thread that exits is past its scenario at once */
static bool *met;         /* by function of the map: in this scenario */
static uint8_t *asked_at; /* by place of the map: in this call */

/* ---- the other thread ---- */

static void say_stall(const struct where *where, char state)
{
    stalls++;
    tally.stalled = true;
    printf("  stall: %s: stopped in %s%s, the other thread is %s for %u ms\n", name,
           map_say(trace_map(), where->place), where->in_syscall ? ", in a system call" : "",
           state == 'S' ? "asleep" : "not through", command.deadline_ms);
}

static bool is_answered(uint64_t asked, uint64_t deadline)
{
    while (shared->answered != asked) {
        if (park_now() > deadline)
            return false;
        sched_yield();
    }
    return true;
}

/* Ten deadlines, if the machine gives it no time. */
static void ask_other(const struct where *where)
{
    uint64_t began = park_now(), ran = 0, ran_then = 0;
    uint64_t asked = shared->asked + 1;
    tally.asked++;
    shared->asked = asked;
    for (unsigned i = 1; i <= 10; i++) {
        if (is_answered(asked, began + i * command.deadline_ms * 1000000ull))
            break;
        char state = trace_state(shared->tid, &ran);
        if (state == 'S' || i == 10 || (i > 1 && ran - ran_then > 50000000)) {
            say_stall(where, state);
            return;
        }
        ran_then = ran;
    }
    if (park_now() - began > worst_ns)
        worst_ns = park_now() - began;
}

/* ---- the stepped thread ---- */

/* False: it is past the call, or gone. */
static bool step(pid_t tid)
{
    trace_step(tid);
    for (;;) {
        struct trace_event e = trace_next(1000000);
        if (e.tid == tid && e.kind == TRACE_STEPPED)
            return shared->phase == PHASE_INSIDE;
        if (e.kind == TRACE_DIED) {
            fprintf(stderr, "step: the workload died in %s; giving up\n", shared->name);
            exit(2);
        }
        if (e.tid == tid && (e.kind == TRACE_EXIT || e.kind == TRACE_TRAP))
            return false;
    }
}

/* Whether the function is in the library, and was not met. */
static bool is_missing(const char *wanted, size_t length)
{
    const struct map *m = trace_map();
    bool exists = false;
    for (size_t i = 0; i < m->functions; i++) {
        const char *f = m->function[i].name;
        if (strncmp(f, wanted, length) != 0 || (f[length] != ' ' && f[length] != '\0'))
            continue;
        exists = true;
        if (met[i])
            return false;
    }
    return exists;
}

static bool from_is_ahead(void)
{
    return from[0] != '\0' && is_missing(from, strlen(from) - 1);
}

static void visit(pid_t tid)
{
    struct where where = trace_where(tid);
    if (where.place == NULL || tally.stalled)
        return;
    for (size_t k = 0; k < where.place->depth; k++)
        met[trace_map()->stack[where.place->first + k]] = true;
    if (from_is_ahead())
        return;
    uint8_t *asked = &asked_at[where.place - trace_map()->place];
    if (++tally.instructions % every == phase_of_sample && *asked < ASKED_MOST) {
        ++*asked;
        ask_other(&where);
    }
}

/* NULL: nothing is missing. */
static const char *first_missing(void)
{
    for (const char *at = expects; *at != '\0'; at = strchr(at, ' ') + 1)
        if (is_missing(at, (size_t)(strchr(at, ' ') - at)))
            return at;
    return NULL;
}

static void finish_scenario(void)
{
    const char *missing = first_missing();
    if (missing != NULL && !tally.stalled) {
        unmet++;
        printf("  unmet: %s: %.*s\n", name, (int)(strchr(missing, ' ') - missing), missing);
    }
    printf("%-30s %4u calls %8lu instructions %8lu asked\n", name, tally.calls, tally.instructions,
           tally.asked);
    all_instructions += tally.instructions;
    all_asked += tally.asked;
    tally = (struct tally){0};
    memset(met, 0, trace_map()->functions * sizeof *met);
}

/* From the trap before a call to the trap after it. */
static void step_through(pid_t tid)
{
    tally.calls++;
    memset(asked_at, 0, trace_map()->places);
    memcpy(name, shared->name, sizeof name);
    memcpy(from, shared->from, sizeof from);
    memcpy(expects, shared->expects, sizeof expects);
    while (step(tid))
        visit(tid);
    bool again = first_missing() != NULL && tally.calls < REPEAT_MOST && !tally.stalled;
    shared->again = again;
    if (!again)
        finish_scenario();
    shared->decided = shared->decided + 1;
    trace_continue(tid);
}

static bool is_shown(void)
{
    return command.expect_stalls && stalls >= STALLS_ENOUGH;
}

static void step_all(void)
{
    asked_at = calloc(trace_map()->places, 1);
    met = calloc(trace_map()->functions, sizeof *met);
    shared->sampled = every > 1;
    shared->go = 1;
    while (!is_shown()) {
        struct trace_event e = trace_next(100000);
        if (e.kind == TRACE_TRAP && shared->phase == PHASE_INSIDE)
            step_through(e.tid);
        else if (e.kind == TRACE_DIED)
            break;
        else if (e.kind != TRACE_NOTHING && e.kind != TRACE_EXIT)
            trace_continue(e.tid);
    }
    if (shared->phase != PHASE_OVER && !is_shown()) {
        fprintf(stderr, "step: the workload died in %s; giving up\n", shared->name);
        exit(2);
    }
}

/* ---- the command line ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
    if (key != 'e')
        return ARGP_ERR_UNKNOWN;
    every = (unsigned)strtoul(text, NULL, 10);
    if (every == 0)
        argp_error(state, "--every %s: not a number from 1 on", text);
    return 0;
}

static const struct argp_option option_list[] = {
    {"every", 'e', "N", 0,
     "ask at every Nth instruction, the first by the seed, and leave out statistics (1)", 0},
    {0}};

int main(int argc, char **argv)
{
    command_read(argc, argv, option_list, parse,
                 "Stops a thread at each instruction; another must go on.");
    phase_of_sample = command.seed % every;
    struct workload workload = workload_open(argv[0], "step_work", sizeof *shared);
    shared = workload.shared;
    uint64_t began = park_now();
    trace_start(workload.program, command.library, NULL, workload.fd);
    step_all();
    printf("step: %s: %lu instructions, the other thread asked at %lu, in %.0f s, seed %lu: %u "
           "stalls, %u "
           "functions unmet; the longest answer took %.1f ms\n",
           command.library, all_instructions, all_asked, (double)(park_now() - began) / 1e9,
           command.seed, stalls, unmet, (double)worst_ns / 1e6);
    return command.expect_stalls ? stalls == 0 : stalls + unmet != 0;
}
