/*
 * test_fork.c: fork from a process with busy threads, a thousand times; the child allocates at
 * once, in every tier, starts threads, and forks again. vfork, posix_spawn and exec.
 *
 *     test_fork [FORKS [no-signals]]      1,000 forks if not given; without the test whose handlers fork
 *
 * How long: 6 ms a fork on two processors. How threads meet: busy ones exchange blocks in a table;
 * between forks they wait in a signal handler, wherever it found them.
 */
#include "testing.h"
#include "rss.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define BUSY 4
static const size_t sizes[] = {16,    100,    1000,    3000,    30000,
                               60000, 900000, 3000000, 4 << 20, 6000000};
static _Atomic(bool) over, paused;
static _Atomic(char *) shared[64];
static int forks = 1000;
static bool with_signals;

/* A byte of each unit, and the last: the time would go into page faults else. */
static void fill(char *p, size_t n, int value)
{
    for (size_t at = 0; at < n; at += 64u << 10)
        p[at] = (char)value;
    p[n - 1] = (char)value;
}

static bool is_filled(const char *p, size_t n, int value)
{
    for (size_t at = 0; at < n; at += 64u << 10)
        if (p[at] != value)
            return false;
    return p[n - 1] == value;
}

static void touch_every_tier(void)
{
    char *p[8];
    for (int i = 0; i < 8; i++) {
        p[i] = malloc(sizes[i]);
        if (p[i] == NULL)
            _exit(3);
        fill(p[i], sizes[i], i);
    }
    for (int i = 0; i < 8; i++) {
        if (!is_filled(p[i], sizes[i], i))
            _exit(4);
        free(p[i]);
    }
}

/* They give way to the child, and to who waits for it: two cores would be shared with four. */
static void *busy(void *argument)
{
    setpriority(PRIO_PROCESS, 0, 19); /* of this thread */
    unsigned i = (unsigned)(uintptr_t)argument;
    while (!atomic_load(&over)) {
        char *p = malloc(sizes[i % (i % 64 == 0 ? 8 : 6)]);
        p[0] = 1;
        free(atomic_exchange(&shared[i * 7 % 64], p));
        i++;
    }
    return NULL;
}

static void *in_child_thread(void *argument)
{
    (void)argument;
    touch_every_tier();
    return NULL;
}

/* The status that the child exits with. */
static int child(int depth)
{
    touch_every_tier();
    for (int i = 0; i < 64; i++) /* blocks of threads that are not here any more */
        free(atomic_exchange(&shared[i], NULL));
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_child_thread, NULL) != 0)
        return 5;
    pthread_join(thread, NULL);
    if (depth > 0) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(depth - 1));
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 6;
    }
    malloc_trim(0);
    touch_every_tier();
    return 0;
}

/* Wherever the signal finds a busy thread: in malloc or free, nearly always. */
static void pause_here(int number)
{
    (void)number;
    int kept = errno;
    while (atomic_load(&paused))
        usleep(500);
    errno = kept;
}

static pthread_t busy_thread[BUSY];

static void pause_busy_threads(void)
{
    atomic_store(&paused, true);
    for (int i = 0; i < BUSY; i++)
        pthread_kill(busy_thread[i], SIGUSR2);
}

static void with_busy_threads(void (*body)(void))
{
    const struct sigaction action = {.sa_handler = pause_here, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
    atomic_store(&over, false);
    for (uintptr_t i = 0; i < BUSY; i++)
        assert_int_equal(pthread_create(&busy_thread[i], NULL, busy, (void *)(i * 1000)), 0);
    body();
    atomic_store(&over, true);
    for (int i = 0; i < BUSY; i++)
        pthread_join(busy_thread[i], NULL);
}

static void expect_success(pid_t pid)
{
    int status = 0;
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* While a child runs, busy threads would only take its processor: they pause, in the middle of what
 * they are at. Beside every tenth child they go on, and write to what it was copied from. */
static void fork_many(void)
{
    for (int i = 0; i < forks; i++) {
        usleep(i * 37 % 500); /* they are somewhere else by then */
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            _exit(child(i % 10 == 0 ? 2 : 0));
        }
        if (i % 10 != 1)
            pause_busy_threads();
        expect_success(pid);
        atomic_store(&paused, false);
    }
}

static void test_fork_with_busy_threads(void **state)
{
    (void)state;
    with_busy_threads(fork_many);
}

/* A handler forks, while what it interrupts works with a borrowed heap, its thread's destructors
 * having run. In the child the handler allocates, and then the interrupted goes on: were the heap
 * taken over in between, it would have two owners, and threads would be given the same blocks. */
#define OTHERS 300000
static pthread_key_t late_key;
static char
    *others[OTHERS]; /* blocks of a thread that lives on: freeing them takes long slow paths */
static volatile bool late_started, late_over, is_child;
static _Atomic(int) bad_children;

static void fork_in_handler(int number)
{
    (void)number;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        is_child = true;
        alarm(20);
        free(malloc(64));
    } else if (waitpid(pid, &status, 0) != pid || status != 0) {
        atomic_fetch_add(&bad_children, 1);
    }
}

static void *check_own_blocks(void *mark)
{
    enum { COUNT = 500 };
    static __thread unsigned char *p[COUNT];
    unsigned random = (unsigned)(uintptr_t)mark;
    for (int i = 0; i < 200000; i++) {
        random = random * 1103515245u + 12345u;
        unsigned char **at = &p[random / 256 % COUNT];
        if (*at != NULL && ((*at)[8] != (uintptr_t)mark || (*at)[63] != (uintptr_t)mark))
            _exit(9);
        free(*at);
        *at = memset(malloc(64), (int)(uintptr_t)mark, 64);
    }
    return NULL;
}

static void check_child(void)
{
    pthread_t thread[4];
    for (int i = 0; i < 50; i++)
        free(malloc(64));
    for (uintptr_t i = 0; i < 4; i++)
        if (pthread_create(&thread[i], NULL, check_own_blocks, (void *)(i + 1)) != 0)
            _exit(5);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    _exit(0);
}

static void late(void *unused)
{
    (void)unused;
    late_started = true;
    for (int i = 0; !late_over; i++) {
        if (i < OTHERS)
            free(others[i]);
        free(malloc(64));
        if (is_child)
            check_child();
    }
}

static void *die_slowly(void *argument)
{
    free(malloc(1)); /* hakmem's key first: its destructor runs before ours */
    pthread_setspecific(late_key, &late_key);
    return argument;
}

static void test_fork_in_signal_handlers(void **state)
{
    (void)state;
    pthread_t thread;
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    if (!with_signals)
        skip();
    assert_int_equal(pthread_key_create(&late_key, late), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < OTHERS; i++)
        others[i] = malloc(64);
    assert_int_equal(pthread_create(&thread, NULL, die_slowly, NULL), 0);
    while (!late_started)
        usleep(100);
    for (int i = 0; i < 20; i++) {
        pthread_kill(thread, SIGUSR1);
        usleep(1000);
    }
    late_over = true;
    pthread_join(thread, NULL);
    assert_int_equal(bad_children, 0);
}

static char *const true_argv[] = {"true", NULL};

static __attribute__((noinline)) pid_t vfork_true(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execv("/bin/true", true_argv);
        _exit(7);
    }
    return pid;
}

static void spawn_many(void)
{
    for (int i = 0; i < 50; i++) {
        pid_t pid;
        assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, true_argv, environ), 0);
        expect_success(pid);
        expect_success(vfork_true());
    }
    assert_int_equal(system("exit 42") >> 8, 42);
}

static void test_vfork_spawn_exec(void **state)
{
    (void)state;
    with_busy_threads(spawn_many);
}

/* A child of a child of a child: what vanished threads held is used again, not held for ever. */
static void *hold_much(void *ready)
{
    enum { COUNT = 4000 };
    static char *p[COUNT];
    for (int i = 0; i < COUNT; i++)
        p[i] = memset(malloc(1000), 1, 1000);
    for (int i = 0; i < COUNT; i++)
        free(p[i]); /* into this thread's bins and slabs */
    atomic_store((_Atomic(bool) *)ready, true);
    while (!atomic_load(&over))
        usleep(1000);
    return NULL;
}

/* More than there can be heaps that nobody holds: those are taken first. */
#define ADOPTERS 64
static pthread_barrier_t all_have_heaps;

static void *take_heap(void *unused)
{
    free(malloc(1));
    pthread_barrier_wait(&all_have_heaps);
    return unused;
}

/* What the vanished thread had freed is in use no more. */
static int child_of_vanished(size_t before)
{
    static pthread_t adopter[ADOPTERS];
    pthread_barrier_init(&all_have_heaps, NULL, ADOPTERS);
    for (int i = 0; i < ADOPTERS; i++)
        if (pthread_create(&adopter[i], NULL, take_heap, NULL) != 0)
            return 5;
    for (int i = 0; i < ADOPTERS; i++)
        pthread_join(adopter[i], NULL); /* one takes the heap over, and gives it up */
    malloc_trim(0);
    return mallinfo2().uordblks < before + 50000 ? 0 : 8;
}

static void test_memory_of_vanished_threads(void **state)
{
    (void)state;
    static _Atomic(bool) ready;
    pthread_t thread;
    atomic_store(&over, false);
    malloc_trim(0);
    size_t before = mallinfo2().uordblks;
    assert_int_equal(pthread_create(&thread, NULL, hold_much, &ready), 0);
    while (!atomic_load(&ready))
        usleep(1000);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child_of_vanished(before));
    expect_success(pid);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
}

/* The same of one that vanishes in a slow path: its heap's slabs may be torn. Others have freed all
 * into them. */
#define GIVEN 4000
#define STOPS 20
static char *given[GIVEN];
static _Atomic(bool) is_given, is_taken, is_stopped;
static _Atomic(unsigned) turns;

static void stop_here(int number)
{
    (void)number;
    atomic_store(&is_stopped, true);
    pause_here(number);
}

static void *give_and_work(void *unused)
{
    for (int i = 0; i < GIVEN; i++)
        given[i] = memset(malloc(1000), 1, 1000);
    atomic_store(&is_given, true);
    while (!atomic_load(&is_taken))
        usleep(1000);
    char *run = malloc(900000);
    for (; !atomic_load(&over); turns++) {
        run = realloc(run, 1000000); /* slow paths, both, in which it looks at no slab */
        run = realloc(run, 900000);
    }
    free(run);
    return unused;
}

/* Bytes that the child finds again: what its own blocks take from the slabs goes back with them. */
static long found_by_child(void)
{
    static char *own[GIVEN];
    long used = (long)mallinfo2().uordblks;
    for (int i = 0; i < GIVEN; i++)
        own[i] = memset(malloc(1000), 1, 1000);
    for (int i = 0; i < GIVEN; i++)
        free(own[i]);
    malloc_trim(0);
    return used - (long)mallinfo2().uordblks;
}

/* Whether the child has found a half of what it could. It finds nothing where the thread was
 * between two slow paths: then the heap waits for a thread that wants one. */
static bool is_found_after_stop(pthread_t thread)
{
    int status = 0;
    for (unsigned before = turns; turns < before + 2;)
        usleep(100);
    atomic_store(&is_stopped, false);
    atomic_store(&paused, true);
    pthread_kill(thread, SIGUSR2);
    while (!atomic_load(&is_stopped))
        usleep(100);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        _exit(found_by_child() > 512 << 10 ? 0 : 10);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) % 10 == 0);
    atomic_store(&paused, false);
    return status == 0;
}

#define FREERS 40

static pthread_barrier_t all_freed;

/* So few each that none looks whether the giver sleeps (relief.h), which would be relieved of them. */
static void *free_some_given(void *share)
{
    for (char **p = share; p < (char **)share + GIVEN / FREERS; p++)
        free(*p);
    pthread_barrier_wait(&all_freed); /* each has a heap of its own */
    return NULL;
}

/* What they have of them, in their out-buffers too, goes to their slabs. */
static void free_given(void)
{
    pthread_t freer[FREERS];
    pthread_barrier_init(&all_freed, NULL, FREERS);
    for (int i = 0; i < FREERS; i++)
        assert_int_equal(
            pthread_create(&freer[i], NULL, free_some_given, given + i * (GIVEN / FREERS)), 0);
    for (int i = 0; i < FREERS; i++)
        pthread_join(freer[i], NULL);
}

static void test_memory_of_threads_in_slow_paths(void **state)
{
    (void)state;
    pthread_t thread;
    const struct sigaction action = {.sa_handler = stop_here, .sa_flags = SA_RESTART};
    if (!with_signals)
        skip();
    assert_int_equal(sigaction(SIGUSR2, &action, NULL), 0);
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&thread, NULL, give_and_work, NULL), 0);
    while (!atomic_load(&is_given))
        usleep(1000);
    free_given();
    atomic_store(&is_taken, true);
    int found = 0;
    for (int i = 0; i < STOPS; i++)
        found += is_found_after_stop(thread);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    print_message("%d of %d children found what a thread had that vanished\n", found, STOPS);
    assert_in_range(found, STOPS / 4, STOPS);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        forks = (int)strtol(argv[1], NULL, 10);
    with_signals = argc < 3 || strcmp(argv[2], "no-signals") != 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork_in_signal_handlers), /* first: no heap is parked yet */
        cmocka_unit_test(test_fork_with_busy_threads),
        cmocka_unit_test(test_vfork_spawn_exec),
        cmocka_unit_test(test_memory_of_vanished_threads),
        cmocka_unit_test(test_memory_of_threads_in_slow_paths),
    };
    return RUN_TESTS(tests);
}
