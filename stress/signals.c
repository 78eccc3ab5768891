/*
 * signals: malloc and free in signal handlers, whatever they interrupt.
 *
 *     signals [--entries N] [--seed S] [--deadline SECONDS] [--bound MIB]
 *                      10^7 handler entries in about two minutes, if not given
 *
 * Why: hakmem says that a handler may call malloc, free and their family at any instruction of any
 * thread. How: threads that allocate and free all the time are interrupted by timers of their own
 * and by each other's tgkill, on five signal numbers: nested, on alternate stacks, or masked. The
 * handler does what the threads do: it makes, resizes and frees blocks of all tiers, its own, the
 * interrupted thread's and other threads', each stamped and checked whole. Other threads live
 * shortly: their first allocation, or all of them, is a handler's, and signals meet them in the
 * last destructor, and after it. One handler runs before main. A watchdog ends the process if a
 * thread makes no progress or the deadline passes, and says which. At the end the peak of the
 * memory must be within a bound, and each of the cases above have been met.
 *
 * How threads meet: blocks pass through slots by atomic exchange; each thread's counters are atomic
 * and relaxed, since its handlers count too; the masters of the short lives join them.
 *
 * For any allocator, by LD_PRELOAD. Those that are not async-signal-safe end in a deadlock or a
 * crash; how far they came is printed. Exit status: 0, 1 for broken contents, 2 for no progress, 3
 * for a crash.
 */
#include "signals_blocks.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define WORKERS       4u
#define MASTERS       2u /* each has one short life at a time */
#define THREADS       (WORKERS + MASTERS)
#define SHARED        512u
#define OWN           32u
#define DEPTH_MOST    4
#define STALL_SECONDS 20
#define STACK_BYTES   (512u << 10)

/* What threads and handlers of one worker, or of one master's short lives, share. */
struct life {
    _Alignas(64) uint32_t number;
    _Atomic(pid_t) target;   /* whom signals are sent to; 0: nobody */
    _Atomic(int) depth;      /* handlers that the target is in */
    _Atomic(uint32_t) asked; /* bits: signals sent whose handler has not begun; never sent twice */
    _Atomic(uint32_t) sequence;
    _Atomic(uint64_t) turns;
    _Atomic(uint64_t) entries;
    _Atomic(uint64_t) nested;
    _Atomic(uint64_t) inside; /* entries that interrupted the allocator itself */
    _Atomic(uint64_t) passed; /* handlers that did nothing, since too many were under way */
    _Atomic(void *) own[OWN]; /* blocks of this life, for its handlers as well */
};

static struct life lives[THREADS + 1]; /* the last: threads that are none of these */
static struct life *const stranger = &lives[THREADS];
static _Atomic(void *) shared[SHARED];
static _Atomic(bool) over;
static _Atomic(uint64_t) first_in_handler; /* threads whose first allocation a handler made */
static _Atomic(uint64_t) after_destructors;
static _Atomic(uint64_t) short_lives;
static uint64_t entries_before_main;
static uintptr_t allocator_code, allocator_code_bytes; /* constant from before the first handler */
static pthread_key_t last_key;

static __thread struct life *self;
static __thread volatile int depth;
static __thread volatile bool has_allocated, is_past;
static __thread uint64_t randomness;

static uint64_t wanted_entries = 10000000, seed;
static long deadline_seconds = 900, bound_mib = 192;

static const int numbers[] = {SIGALRM, SIGVTALRM, SIGUSR1, SIGUSR2, SIGPROF};
#define NUMBERS (sizeof numbers / sizeof numbers[0])

static void count(_Atomic(uint64_t) *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static uint64_t total(size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i <= THREADS; i++)
        sum += atomic_load_explicit((_Atomic(uint64_t) *)((char *)&lives[i] + offset),
                                    memory_order_relaxed);
    return sum;
}

static uint64_t all_entries(void)
{
    return total(offsetof(struct life, entries));
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* ---- what threads and handlers do ---- */

static uint64_t draw(void)
{
    return random_next(&randomness);
}

static uint32_t turn_of(struct life *life)
{
    return atomic_fetch_add_explicit(&life->sequence, 1, memory_order_relaxed);
}

/* A block of its own three times of four: in a handler, one of the interrupted thread. */
static _Atomic(void *) *choose_slot(struct life *life)
{
    uint64_t random = draw();
    return random % 4 != 0 ? &life->own[random / 4 % OWN] : &shared[random / 4 % SHARED];
}

static void make_one(struct life *life, _Atomic(void *) *slot)
{
    void *p = block_make(life->number, turn_of(life), draw());
    block_free(atomic_exchange(slot, p));
}

static void resize_one(struct life *life, _Atomic(void *) *slot)
{
    void *p = atomic_exchange(slot, NULL);
    if (p == NULL)
        p = block_make(life->number, turn_of(life), draw());
    p = block_resize(p, life->number, turn_of(life), draw());
    block_free(atomic_exchange(slot, p));
}

static void act(struct life *life)
{
    _Atomic(void *) *slot = choose_slot(life);
    uint64_t dice = draw() % 8;
    if (dice < 4)
        make_one(life, slot);
    else if (dice == 4)
        resize_one(life, slot);
    else if (dice < 7)
        block_free(atomic_exchange(slot, NULL));
    else
        block_free(block_make(life->number, turn_of(life), draw()));
}

static uint32_t bit_of(int number)
{
    return (uint32_t)1 << number;
}

static void set_depth(struct life *life, int to)
{
    depth = to;
    atomic_store_explicit(&life->depth, to, memory_order_relaxed);
}

static void note_entry(struct life *life)
{
    if (depth > 1)
        count(&life->nested);
    if (is_past)
        count(&after_destructors);
    if (!has_allocated)
        count(&first_in_handler);
    has_allocated = true;
}

/* Whether the instruction that was interrupted is the allocator's. */
static bool is_inside(const ucontext_t *context)
{
#if defined(__x86_64__)
    uintptr_t at = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t at = (uintptr_t)context->uc_mcontext.pc;
#endif
    return at - allocator_code < allocator_code_bytes;
}

static void handler(int number, siginfo_t *info, void *context)
{
    (void)info;
    struct life *life = self != NULL ? self : stranger;
    int saved = errno, outer = depth;
    atomic_fetch_and_explicit(&life->asked, ~bit_of(number), memory_order_relaxed);
    if (outer >= DEPTH_MOST) {
        count(&life->passed);
        return;
    }
    set_depth(life, outer + 1);
    note_entry(life);
    if (is_inside(context))
        count(&life->inside);
    act(life);
    set_depth(life, outer);
    count(&life->entries);
    errno = saved;
}

static void fatal(int number)
{
    complain(3, "signals: ended by signal %d (%s) after %llu handler entries", number,
             number == SIGSEGV ? "SIGSEGV" : "SIGABRT or the like",
             (unsigned long long)all_entries());
}

/* The code of the object that malloc is in. */
static int find_allocator(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size, (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD || (part->p_flags & PF_X) == 0 ||
            (uintptr_t)&malloc - start >= part->p_memsz)
            continue;
        allocator_code = start;
        allocator_code_bytes = part->p_memsz;
    }
    return 0;
}

/* Two may nest in themselves, all in each other; two use the alternate stack, where there is
 * one. */
static void install_handlers(void)
{
    static const int flags[NUMBERS] = {SA_NODEFER, 0, SA_NODEFER | SA_ONSTACK, SA_ONSTACK, 0};
    static const int deaths[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    for (size_t i = 0; i < NUMBERS; i++) {
        struct sigaction action = {.sa_sigaction = handler,
                                   .sa_flags = flags[i] | SA_RESTART | SA_SIGINFO};
        sigaction(numbers[i], &action, NULL);
    }
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
        struct sigaction action = {.sa_handler = fatal, .sa_flags = SA_ONSTACK | (int)SA_RESETHAND};
        sigaction(deaths[i], &action, NULL);
    }
}

static void mask_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < NUMBERS; i++)
        sigaddset(&set, numbers[i]);
    pthread_sigmask(how, &set, NULL);
}

/* ---- signals on their way ---- */

/* A signal that is pending still would be lost. */
static bool send_to(struct life *life)
{
    int number = numbers[draw() % NUMBERS];
    pid_t tid = atomic_load_explicit(&life->target, memory_order_relaxed);
    uint32_t bit = bit_of(number);
    if (tid == 0 || atomic_load_explicit(&life->depth, memory_order_relaxed) >= DEPTH_MOST ||
        (atomic_fetch_or_explicit(&life->asked, bit, memory_order_relaxed) & bit) != 0)
        return false;
    if (syscall(SYS_tgkill, getpid(), tid, number) == 0)
        return true;
    atomic_fetch_and_explicit(&life->asked, ~bit, memory_order_relaxed);
    return false;
}

/* By the system call, since timer_create may allocate: one for this thread. -1: none. */
static int make_timer(int number)
{
    int id = -1;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number};
    event._sigev_un._tid = gettid();
    return syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) == 0 ? id : -1;
}

static void set_timer(int id, long first_ns, long every_ns)
{
    struct itimerspec times = {{0, every_ns}, {0, first_ns}};
    syscall(SYS_timer_settime, id, 0, &times, NULL);
}

static void delete_timer(int id)
{
    if (id >= 0)
        syscall(SYS_timer_delete, id);
}

/* ---- threads that stay ---- */

static void use_alternate_stack(void)
{
    stack_t stack = {.ss_size = STACK_BYTES};
    stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) != 0)
        complain(1, "signals: no alternate stack; ending");
}

static void begin_life(struct life *life)
{
    randomness = seed * 31 + life->number + (uint64_t)gettid() * 0x10001;
    self = life;
    atomic_store(&life->depth, 0);
    atomic_store(&life->asked, 0);
    atomic_store(&life->target, gettid());
}

static void drain(_Atomic(void *) *slots, unsigned slot_count)
{
    for (unsigned i = 0; i < slot_count; i++)
        block_free(atomic_exchange(&slots[i], NULL));
}

/* To one that has taken what was sent before: as a rule, one that is running. */
static bool send_to_any(struct life *but)
{
    unsigned first = (unsigned)(draw() % THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        struct life *other = &lives[(first + i) % THREADS];
        if (other != but && send_to(other))
            return true;
    }
    return false;
}

/* The first worker only sends: signals reach the others while they run, not when they return from a
 * system call of their own. */
static void work(struct life *life)
{
    bool any = life->number != 0;
    for (unsigned i = 0; i < 8; i++) {
        if (life->number != 0)
            act(life);
        if (life->number == 0 || i % 2 == 0)
            any |= send_to_any(life);
    }
    if (!any)
        sched_yield();
    count(&life->turns);
}

static void *worker(void *argument)
{
    struct life *life = argument;
    begin_life(life);
    if (life->number % 2 == 0)
        use_alternate_stack();
    int slow = make_timer(SIGALRM), fast = make_timer(SIGVTALRM);
    set_timer(slow, 1000, 41000);
    set_timer(fast, 1000, 17000 + life->number * 3000);
    mask_signals(SIG_UNBLOCK);
    while (!atomic_load_explicit(&over, memory_order_relaxed))
        work(life);
    delete_timer(slow);
    delete_timer(fast);
    mask_signals(SIG_BLOCK);
    drain(life->own, OWN);
    return NULL;
}

/* ---- short lives ---- */

struct last_words {
    struct life *life;
    int rounds, timer;
};

/* After the last of its rounds no code of ours runs in the thread, but for handlers. */
static void last_destructor(void *argument)
{
    struct last_words *last = argument;
    act(last->life);
    has_allocated = true;
    raise(SIGUSR1);
    if (++last->rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(last_key, last);
        return;
    }
    is_past = true;
    set_timer(last->timer, 1 + (long)(draw() % 30000), 0);
}

/* Signals wait for the thread when it lets them in: handlers then make its first allocations. */
static void be_signalled(void)
{
    for (size_t i = 0; i < NUMBERS; i++)
        raise(numbers[i]);
    mask_signals(SIG_UNBLOCK);
}

static void *short_life(void *argument)
{
    struct last_words *last = argument;
    uint64_t kind = last->life->turns % 4;
    begin_life(last->life);
    last->timer = make_timer(SIGUSR2);
    if (kind == 0)
        be_signalled();
    for (int i = 0; kind < 2 && i < 20; i++)
        act(last->life);
    has_allocated |= kind < 2;
    pthread_setspecific(last_key, last);
    mask_signals(SIG_UNBLOCK);
    for (int i = 0; kind == 2 && i < 20; i++) /* only handlers allocate, if there are any */
        sched_yield();
    return NULL;
}

/* Half of them start with signals let in, as their master has them. */
static void live_once(struct life *life)
{
    pthread_t thread;
    struct last_words last = {.life = life, .timer = -1};
    int how = life->turns % 2 == 0 ? SIG_BLOCK : SIG_UNBLOCK;
    mask_signals(how);
    if (pthread_create(&thread, NULL, short_life, &last) != 0)
        complain(1, "signals: no thread; ending");
    mask_signals(SIG_UNBLOCK);
    pthread_join(thread, NULL);
    delete_timer(last.timer);
    count(&life->turns);
    count(&short_lives);
}

static void *master(void *argument)
{
    struct life *life = argument;
    self = stranger;
    randomness = seed * 37 + life->number;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        live_once(life);
        syscall(SYS_kill, getpid(), SIGVTALRM); /* to whichever thread */
    }
    mask_signals(SIG_BLOCK);
    drain(life->own, OWN);
    return NULL;
}

/* ---- the watchdog ---- */

static uint64_t progress_of(struct life *life)
{
    return atomic_load_explicit(&life->turns, memory_order_relaxed) +
           atomic_load_explicit(&life->entries, memory_order_relaxed);
}

static void no_progress(unsigned i)
{
    complain(2,
             "signals: thread %u (tid %d, in %d handlers) made no progress in %d s, after %llu "
             "turns and %llu entries of its own, %llu entries in all; ending",
             i, (int)lives[i].target, lives[i].depth, STALL_SECONDS,
             (unsigned long long)lives[i].turns, (unsigned long long)lives[i].entries,
             (unsigned long long)all_entries());
}

static void *watch(void *argument)
{
    struct timespec *start = argument, pause = {0, 100000000}, moved[THREADS];
    uint64_t seen[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++)
        moved[i] = *start;
    while (!atomic_load(&over)) {
        nanosleep(&pause, NULL);
        for (unsigned i = 0; i < THREADS; i++) {
            if (progress_of(&lives[i]) != seen[i])
                clock_gettime(CLOCK_MONOTONIC, &moved[i]);
            else if (seconds_since(&moved[i]) > STALL_SECONDS)
                no_progress(i);
            seen[i] = progress_of(&lives[i]);
        }
        if (seconds_since(start) > (double)deadline_seconds)
            complain(2, "signals: %llu entries in %ld s, not %llu; ending",
                     (unsigned long long)all_entries(), deadline_seconds,
                     (unsigned long long)wanted_entries);
    }
    return NULL;
}

/* ---- main ---- */

__attribute__((constructor)) static void signal_before_main(void)
{
    for (unsigned i = 0; i <= THREADS; i++)
        lives[i].number = i;
    dl_iterate_phdr(find_allocator, NULL);
    install_handlers();
    for (size_t i = 0; i < NUMBERS; i++)
        raise(numbers[i]);
    entries_before_main = all_entries();
}

static void run(struct timespec *start)
{
    pthread_t thread[THREADS], watchdog;
    bool created = pthread_create(&watchdog, NULL, watch, start) == 0;
    for (unsigned i = 0; i < THREADS; i++)
        created &= pthread_create(&thread[i], NULL, i < WORKERS ? worker : master, &lives[i]) == 0;
    if (!created)
        complain(1, "signals: no thread; ending");
    while (all_entries() < wanted_entries)
        usleep(10000);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(watchdog, NULL);
    drain(shared, SHARED);
    drain(stranger->own, OWN);
}

static void need(const char *what, uint64_t times)
{
    printf("  %-38s %llu\n", what, (unsigned long long)times);
    if (times == 0)
        complain(1, "signals: there were no %s; failing", what);
}

static void report(const struct timespec *start)
{
    long peak = status_kib("VmHWM:");
    printf("signals: %llu handler entries in %.1f s\n", (unsigned long long)all_entries(),
           seconds_since(start));
    need("nested", total(offsetof(struct life, nested)));
    need("interrupted the allocator itself", total(offsetof(struct life, inside)));
    need("before main", entries_before_main);
    need("first allocations by a handler", first_in_handler);
    need("entries after the last destructor", after_destructors);
    need("short lives", short_lives);
    printf("  %-38s %llu\n", "too deep, so passed",
           (unsigned long long)total(offsetof(struct life, passed)));
    printf("  %-38s %ld (bound: %ld)\n", "peak of resident memory, KiB", peak, bound_mib * 1024);
    fflush(stdout);
    if (peak < 0 || peak > bound_mib * 1024)
        complain(1, "signals: %ld KiB were resident, more than %ld; failing", peak,
                 bound_mib * 1024);
}

static const struct argp_option options[] = {
    {"entries", 'n', "N", 0, "handler entries to reach (10000000)", 0},
    {"seed", 's', "S", 0, "of the random choices (from the clock)", 0},
    {"deadline", 'd', "SECONDS", 0, "to reach them in (900)", 0},
    {"bound", 'b', "MIB", 0, "of resident memory (192)", 0},
    {0},
};

static error_t parse(int key, char *value, struct argp_state *state)
{
    (void)state;
    switch (key) {
    case 'n':
        wanted_entries = strtoull(value, NULL, 0);
        return 0;
    case 's':
        seed = strtoull(value, NULL, 0);
        return 0;
    case 'd':
        deadline_seconds = atol(value);
        return 0;
    case 'b':
        bound_mib = atol(value);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {options, parse, NULL, "malloc in signal handlers", 0, 0, 0};
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    seed = (uint64_t)start.tv_nsec * 1000003u + (uint64_t)start.tv_sec;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    printf("signals: %llu entries, seed %llu\n", (unsigned long long)wanted_entries,
           (unsigned long long)seed);
    fflush(stdout);
    mask_signals(SIG_BLOCK);
    pthread_key_create(&last_key, last_destructor);
    run(&start);
    report(&start);
    return 0;
}
