/*
 * atfork_lib.c: a library that starts a thread of its own anew in the child of each fork, as such
 * with workers do.
 */
#include "atfork_lib.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT = 256, STEPS = 30000, HANDLER_TAKES_US = 3000 };

static pthread_t worker;
static bool started;
static int wrong;

static size_t size_of(unsigned random)
{
    return 1 + (random >> 8) % ((random & 0x30000) != 0 ? 3000 : 70000);
}

static void *work(void *argument)
{
    unsigned random = 12345;
    unsigned char *block[KEPT] = {NULL};
    size_t bytes[KEPT] = {0};
    for (int i = 0; i < STEPS; i++) {
        random = random * 1103515245 + 12345;
        unsigned k = (random >> 16) % KEPT;
        if (block[k] != NULL)
            wrong += block[k][0] != k || block[k][bytes[k] - 1] != k;
        free(block[k]);
        bytes[k] = size_of(random);
        block[k] = memset(malloc(bytes[k]), (int)k, bytes[k]);
    }
    for (int k = 0; k < KEPT; k++)
        free(block[k]);
    return argument;
}

static void start_anew(void)
{
    started = pthread_create(&worker, NULL, work, NULL) == 0;
    usleep(HANDLER_TAKES_US);
}

__attribute__((constructor)) static void watch(void)
{
    pthread_atfork(NULL, NULL, start_anew);
}

int atfork_lib_wrong(void)
{
    if (!started)
        return 1;
    pthread_join(worker, NULL);
    return wrong;
}
