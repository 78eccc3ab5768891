/*
 * options.c: the environment variables, read once, by a constructor.
 *
 *     HAKMEM_PURGE_KIB        8192    free pages that stay, or as many as use swings by, or fell by
 *     HAKMEM_WHALE_CACHE_KIB  8192    memory in freed blocks over 4 MiB that stays, half of what such blocks
 *                                     have in use, and as much more as that swings by, or fell by
 *     HAKMEM_HUGE_PAGES       1       0: never asks for huge pages; 1: where memory is written to; 2: always
 *     HAKMEM_STATS            0       1: malloc_stats() when the process ends
 *     HAKMEM_DEEPBIND         0       1: dlopen's RTLD_DEEPBIND stays (dlopen.c)
 *
 * SYNCHRONIZATION: none; single-threaded as constructors and destructors are.
 */
#include "options.h"
#include "../global/huge.h"
#include "../global/os.h"
#include "../global/segment.h"
#include "../global/whale.h"

#include <hakmem.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool print_stats;
static char **at_start; /* constant once set, by the first constructor: the environment */

/* hakmem's constructors run before all others, even the C library's, which sets `environ`. glibc
 * hands each what main gets. */
__attribute__((constructor(101))) static void find_environment(int argc, char **argv,
                                                               char **variables)
{
    (void)argc;
    (void)argv;
    at_start = variables;
}

static const char *variable(const char *name)
{
    size_t length = strlen(name);
    char **text = environ != NULL ? environ : at_start;
    for (; text != NULL && *text != NULL; text++)
        if (strncmp(*text, name, length) == 0 && (*text)[length] == '=')
            return *text + length + 1;
    return NULL;
}

long option_number(const char *name, long otherwise, long most)
{
    const char *text = variable(name);
    char *end;
    if (text == NULL)
        return otherwise;
    long value = strtol(text, &end, 10);
    if (end != text && *end == '\0' && value >= 0 && value <= most)
        return value;
    os_say("%s=%s is not a whole number of 0 to %ld; using %ld", name, text, most, otherwise);
    return otherwise;
}

__attribute__((constructor)) static void read_options(void)
{
    const long most = LONG_MAX >> 20;
    long purge = option_number("HAKMEM_PURGE_KIB", 8192, most);
    segment_set_purge_limit(purge / (long)(UNIT_SIZE / 1024));
    whale_set_cache_limit(KIB(option_number("HAKMEM_WHALE_CACHE_KIB", 8192, most)));
    huge_set_mode((enum huge_mode)option_number("HAKMEM_HUGE_PAGES", HUGE_WHERE_USED, HUGE_ALWAYS));
    print_stats = option_number("HAKMEM_STATS", 0, 1) == 1;
}

__attribute__((destructor)) static void last_words(void)
{
    if (print_stats)
        hak_malloc_stats();
}
