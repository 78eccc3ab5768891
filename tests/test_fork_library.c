/*
 * test_fork_library.c: a process of busy threads forks, and a library that it is linked with starts
 * a thread in the child, from a handler of pthread_atfork: hakmem's has run before, though the
 * library was there first.
 */
#include "testing.h"
#include "atfork_lib.h"
#include "children.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BUSY = 4, FORKS = 150, KEPT = 128, BLOCKS = 200, HANGS_AFTER_S = 10 };

/* They give way to the child, and to who waits for it: two cores would be shared with four. */
static void *be_busy(void *argument)
{
    setpriority(PRIO_PROCESS, 0, 19); /* of this thread */
    unsigned random = (unsigned)(uintptr_t)argument;
    void *block[KEPT] = {NULL};
    for (;;) {
        random = random * 1103515245 + 12345;
        unsigned k = (random >> 16) % KEPT;
        free(block[k]);
        block[k] = malloc(1 + (random >> 8) % ((random & 0x700) != 0 ? 2000 : 100000));
    }
    return NULL;
}

static void child(int number)
{
    (void)number;
    unsigned char *block[BLOCKS];
    int wrong = 0;
    alarm(HANGS_AFTER_S);
    for (int i = 0; i < BLOCKS; i++)
        block[i] = memset(malloc((size_t)i * 50 + 1), i, (size_t)i * 50 + 1);
    wrong = atfork_lib_wrong();
    for (int i = 0; i < BLOCKS; i++) {
        wrong += block[i][0] != i;
        free(block[i]);
    }
    _exit(wrong != 0);
}

static void test_a_library_that_starts_a_thread_in_the_child(void **state)
{
    (void)state;
    for (uintptr_t i = 1; i <= BUSY; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, be_busy, (void *)i), 0);
    }
    assert_int_equal(count_failed_children(FORKS, child), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_library_that_starts_a_thread_in_the_child),
    };
    return RUN_TESTS(tests);
}
