/*
 * park_command.c: see park_command.h.
 */
#include "park_command.h"
#include "park_shared.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct command command = {.deadline_ms = 2000};

static error_t parse_common(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 's':
        command.seed = strtoull(text, NULL, 0);
        break;
    case 'd':
        command.deadline_ms = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'x':
        command.expect_stalls = true;
        break;
    case ARGP_KEY_ARG:
        command.library = text;
        break;
    case ARGP_KEY_END:
        if (state->arg_num != 1)
            argp_usage(state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option common_options[] = {
    {"seed", 's', "S", 0, "a seed (from the clock)", 0},
    {"deadline", 'd', "MS", 0, "a stall is as long without progress (2000)", 0},
    {"expect-stalls", 'x', NULL, 0, "exit status 0 if there were stalls", 0},
    {0}};

void command_read(int argc, char **argv, const struct argp_option *own, argp_parser_t parse_own,
                  const char *doc)
{
    const struct argp common = {.options = common_options, .parser = parse_common};
    const struct argp_child children[] = {{.argp = &common}, {0}};
    const struct argp parser = {.options = own,
                                .parser = parse_own,
                                .args_doc = "LIBRARY|system",
                                .doc = doc,
                                .children = children};
    argp_parse(&parser, argc, argv, 0, NULL, NULL);
    if (command.seed == 0)
        command.seed = park_now();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s: %s: seed %lu\n", program_invocation_short_name, command.library, command.seed);
}

static void *map_shared(int fd, size_t bytes)
{
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        return MAP_FAILED;
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

struct workload workload_open(const char *tool, const char *name, size_t bytes)
{
    static char path[PATH_MAX];
    const char *slash = strrchr(tool, '/');
    int fd = memfd_create(name, 0);
    struct workload w = {{path, NULL}, fd, map_shared(fd, bytes)};
    snprintf(path, sizeof path, "%.*s%s", slash != NULL ? (int)(slash - tool + 1) : 0, tool, name);
    if (w.shared == MAP_FAILED) {
        fprintf(stderr, "%s: no memory to share with %s: %s; giving up\n",
                program_invocation_short_name, name, strerror(errno));
        exit(2);
    }
    return w;
}
