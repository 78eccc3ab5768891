/*
 * park_command.h: what park and step have in common before they trace: the command line, and the
 * workload, a program beside them that they share memory with.
 *
 * SYNCHRONIZATION: none; the tracer has one thread.
 */
#ifndef PARK_COMMAND_H
#define PARK_COMMAND_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What both are asked. */
extern struct command {
    char *library; /* "system": libc's */
    uint64_t seed;
    unsigned deadline_ms;
    bool expect_stalls;
} command;

struct workload {
    char *program[2]; /* as execv wants it */
    int fd;           /* of the shared memory */
    void *shared;
};

/* Reads the command line into `command`; the options that only the tool has go to its parser. Says
 * the seed. */
void command_read(int argc, char **argv, const struct argp_option *own, argp_parser_t parse_own,
                  const char *doc);

/* The program `name` in the folder of `tool`, and `bytes` of memory to share with it, zeroed. Ends
 * the process with a line if there is none. */
struct workload workload_open(const char *tool, const char *name, size_t bytes);

#endif
