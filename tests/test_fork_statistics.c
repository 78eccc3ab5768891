/*
 * test_fork_statistics.c: a process forks beside its threads' first statistics, for which liburcu
 * registers them under a mutex: children go on, and have statistics or none, and signal masks are
 * as they were. Each try is a process of its own, since a first time is only once.
 */
#include "testing.h"
#include "children.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { TRIES = 100, FORKERS = 4, ASKERS = 2, FORKS = 5, HANGS_AFTER_S = 5 };

static int try_no;
static _Atomic(int) wrong;

static int other(int signal)
{
    return signal == SIGUSR1 ? SIGUSR2 : SIGUSR1;
}

static bool mask_is(int signal)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, signal) && !sigismember(&mask, other(signal)) &&
           !sigismember(&mask, SIGTERM);
}

static void child(int signal)
{
    mallinfo2();
    _exit(mask_is(signal) ? 0 : 1);
}

/* A child that hangs has all signals blocked, but for this. */
static int wait_or_kill(pid_t pid)
{
    int status = 0;
    for (int i = 0; i < HANGS_AFTER_S * 1000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return status;
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return status;
}

static void *fork_often(void *argument)
{
    int signal = *(const int *)argument;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, signal);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0)
            child(signal);
        bool right = pid > 0 && mask_is(signal);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        if (!right || wait_or_kill(pid) != 0)
            atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

static void *ask(void *argument)
{
    usleep(300u + (unsigned)try_no * 53 % 2000 + *(const unsigned *)argument);
    mallinfo2();
    return NULL;
}

static void try_once(int number)
{
    static int signals[FORKERS] = {SIGUSR1, SIGUSR2, SIGUSR1, SIGUSR2};
    static unsigned later[ASKERS] = {0, 300};
    pthread_t thread[FORKERS + ASKERS];
    try_no = number;
    for (int i = 0; i < FORKERS; i++)
        pthread_create(&thread[i], NULL, fork_often, &signals[i]);
    for (int i = 0; i < ASKERS; i++)
        pthread_create(&thread[FORKERS + i], NULL, ask, &later[i]);
    for (int i = 0; i < FORKERS + ASKERS; i++)
        pthread_join(thread[i], NULL);
    _exit(atomic_load(&wrong) != 0);
}

static void test_forks_beside_the_first_statistics(void **state)
{
    (void)state;
    assert_int_equal(count_failed_children(TRIES, try_once), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forks_beside_the_first_statistics),
    };
    return RUN_TESTS(tests);
}
