/*
 * test_relief_steps.c: a signal handler comes in at every instruction of a slow path, in turn,
 * while the heap is idle, seized, or was; it allocates, and may fork. Afterwards the heap is its
 * thread's, and nobody else's, in the child too.
 *
 * By the processor's trap flag, in this process: so on x86-64 only.
 */
#include "testing.h"

#include "fast/heap.h"

#include <hakmem.h>

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define BLOCK        16000 /* few fit into a bin */
#define STEPS_OF_END 500   /* the rest is as for any heap that was borrowed */
#define TRAP_FLAG    0x100

/* Each of the first steps, then a part of them, since one takes microseconds. */
#define EACH         48
#define THEN         41
#define THEN_OF_FORK 193

/* More than there are in stacks: then those of vanished threads are looked for. */
#define TAKEN 12

enum action {
    SEIZE,          /* another thread seizes the heap, and lets go, while the handler allocates */
    END,            /* the heap is seized before; that ends, and the handler allocates */
    ALLOCATE,       /* the heap is seized before, and stays so */
    FORK,           /* the child goes on, too */
    FORK_AFTER_END, /* the same; the heap is seized before, and that ends */
    ACTIONS
};

static struct heap *own;
static enum action action;
static long steps, when; /* the action comes at this step */
static bool is_child;
static int failed_children;

static void allocate(void)
{
    hak_free(hak_malloc(BLOCK));
    hak_free(hak_malloc(3 * BLOCK));
}

/* How often own is given to who takes as many heaps. */
static int times_given(void)
{
    struct heap *taken[TAKEN], *entered = heap_current;
    int times = 0;
    for (int i = 0; i < TAKEN; i++)
        times += (taken[i] = heap_open(heap_sentinel(HEAP_GONE))) == own;
    for (int i = 0; i < TAKEN; i++)
        heap_close(heap_sentinel(HEAP_GONE), taken[i]);
    heap_current = entered;
    return times;
}

static void fork_once(void)
{
    int status = 0;
    pid_t pid = fork();
    is_child = pid == 0;
    if (is_child) {
        alarm(20);
        times_given();
    }
    allocate();
    if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
        failed_children++;
}

static void act(void)
{
    bool seized = action == SEIZE && heap_seize(own);
    if (action == END || action == FORK_AFTER_END)
        heap_end_seizure(own);
    if (action == FORK || action == FORK_AFTER_END)
        fork_once();
    else
        allocate();
    if (seized)
        heap_end_seizure(own);
}

static long next(long step)
{
    return step + (step < EACH ? 1 : action >= FORK ? THEN_OF_FORK : THEN);
}

/* Once it has come the rest need not be stepped through. */
static void on_step(int signal_no, siginfo_t *unused, void *context)
{
    (void)signal_no;
    (void)unused;
    if (++steps < when)
        return;
    act();
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

/* Below the red zone. */
static void trap(bool on)
{
    if (on)
        __asm__ volatile(
            "lea -128(%%rsp), %%rsp; pushf; orq %0, (%%rsp); popf; lea 128(%%rsp), %%rsp"
            :
            : "i"(TRAP_FLAG)
            : "memory", "cc");
    else
        __asm__ volatile(
            "lea -128(%%rsp), %%rsp; pushf; andq %0, (%%rsp); popf; lea 128(%%rsp), %%rsp"
            :
            : "i"(~TRAP_FLAG)
            : "memory", "cc");
}

static bool is_seized_before(void)
{
    return action == END || action == ALLOCATE || action == FORK_AFTER_END;
}

/* Nobody else is given it, and it is as its thread left it. */
static bool is_own(void)
{
    bool is_own =
        heap_current == own && (atomic_load(&own->holder) & HEAP_STATES) == 0 && times_given() == 0;
    heap_current = own;
    allocate();
    return is_own;
}

static void *block;

static struct bin *bin_of_block(void)
{
    return &own->bin[size_to_class(BLOCK)];
}

/* What the bin has is lost, so that the next malloc misses. */
static void miss(void)
{
    bin_of_block()->head = NULL;
    bin_of_block()->room = bin_of_block()->limit;
}

static void take_a_block(void)
{
    block = hak_malloc(BLOCK);
}

/* The next free runs over. */
static void fill(void)
{
    enum { MOST = 128 };
    void *more[MOST];
    own->ran_over[size_to_class(BLOCK)] = 0; /* its bin does not grow */
    block = hak_malloc(BLOCK);
    for (int i = 0; i < MOST; i++)
        more[i] = hak_malloc(BLOCK);
    for (int i = 0; i < MOST && bin_of_block()->room > 0; i++)
        hak_free(more[i]);
    assert_int_equal(bin_of_block()->room, 0);
}

static void free_one_more(void)
{
    hak_free(block);
}

/* True: the action came before the end. */
static bool run_with_action_at(long step, void (*call)(void))
{
    steps = 0;
    when = step;
    if (is_seized_before())
        assert_true(heap_seize(own));
    trap(true);
    call();
    trap(false);
    bool came = steps >= when;
    if (is_seized_before() && (action == ALLOCATE || !came))
        heap_end_seizure(own);
    bool is_right = is_own();
    if (is_child)
        _exit(is_right ? 0 : 1);
    if (!is_right)
        fail_msg("action %d at step %ld: the heap is not its thread's", action, step);
    if (failed_children > 0)
        fail_msg("action %d at step %ld: the child's heap is not its thread's", action, step);
    return came;
}

static void sweep(void (*prepare)(void), void (*call)(void))
{
    allocate();
    own = heap_current;
    for (int i = 0; i < ACTIONS; i++) {
        long step = 1;
        action = (enum action)i;
        for (prepare(); run_with_action_at(step, call); prepare())
            step = next(step);
        assert_true(step > EACH);
    }
}

static void test_malloc_that_misses(void **state)
{
    (void)state;
    sweep(miss, take_a_block);
}

static void test_free_that_runs_over(void **state)
{
    (void)state;
    sweep(fill, free_one_more);
}

/* In a thread of its own each time. At the end the heap is in a stack, once. */
static void *end(void *unused)
{
    (void)unused;
    allocate();
    own = heap_current;
    if (is_seized_before())
        assert_true(heap_seize(own));
    trap(true);
    heap_retire(heap_enter());
    trap(false);
    heap_leave(heap_sentinel(HEAP_GONE));
    if (is_seized_before() && (action == ALLOCATE || steps < when))
        heap_end_seizure(own);
    if (is_child)
        _exit(times_given() == 1 ? 0 : 1);
    return NULL;
}

/* True: the action came before the end. */
static bool end_with_action_at(long step)
{
    pthread_t thread;
    steps = 0;
    when = step;
    assert_int_equal(pthread_create(&thread, NULL, end, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (times_given() != 1)
        fail_msg("action %d at step %ld: the heap is nobody's, or two have it", action, step);
    if (failed_children > 0)
        fail_msg("action %d at step %ld: the same in the child", action, step);
    return steps >= when;
}

static void test_a_thread_that_ends(void **state)
{
    (void)state;
    for (int i = 0; i < ACTIONS; i++) {
        long step = 1;
        action = (enum action)i;
        while (step < STEPS_OF_END && end_with_action_at(step))
            step = next(step);
        assert_true(step > EACH / 2);
    }
}

int main(void)
{
    const struct sigaction on_trap = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &on_trap, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malloc_that_misses),
        cmocka_unit_test(test_free_that_runs_over),
        cmocka_unit_test(test_a_thread_that_ends),
    };
    return RUN_TESTS(tests);
}
