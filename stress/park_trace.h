/*
 * park_trace.h: one process, traced: a thread of it is stopped at a chosen or a random instruction
 * of the allocator, and all others run on.
 *
 * Every thread is attached (PTRACE_SEIZE, new ones by PTRACE_O_TRACECLONE), since a breakpoint is
 * hit by whoever comes by. An attached thread runs at full speed; its start, signals and exit pass
 * by here, so trace_next must be called all the time.
 *
 * SYNCHRONIZATION: none; the tracer has one thread.
 */
#ifndef PARK_TRACE_H
#define PARK_TRACE_H

#include "park_map.h"

#include <stdio.h>
#include <sys/types.h>

enum trace_kind {
    TRACE_NOTHING, /* the time is over */
    TRACE_HIT,     /* tid is stopped at a breakpoint; all breakpoints are gone */
    TRACE_STEPPED, /* tid is stopped, one instruction on */
    TRACE_STOPPED, /* tid is stopped by trace_interrupt */
    TRACE_TRAP,    /* tid is stopped after an int3 of its own */
    TRACE_EXIT,    /* tid, which began at epoch `began`, is gone */
    TRACE_DIED     /* the process is gone */
};

struct trace_event {
    enum trace_kind kind;
    pid_t tid;
    unsigned began;
};

/* Where a thread is, in the allocator. */
struct where {
    struct place *place; /* NULL: nowhere in it */
    bool in_syscall;     /* in a system call that it has made there */
};

/* Starts `command` with `library` ("system": none) and `also` (NULL: none) preloaded, and `fd` as
 * PARK_FD; reads where the allocator is. Ends the calling process with a line if that fails. */
void trace_start(char *const command[], const char *library, const char *also, int fd);
/* Kills the process and waits for it. */
void trace_end(void);
/* What the allocator consists of: read once, by the first trace_start. */
struct map *trace_map(void);

/* Handles what is routine, and returns what is not, after `us` microseconds at most. */
struct trace_event trace_next(unsigned us);
/* Threads that start from now on began at `epoch`. */
void trace_epoch(unsigned epoch);

void trace_interrupt(pid_t tid);
void trace_step(pid_t tid);
void trace_continue(pid_t tid);
struct where trace_where(pid_t tid);
/* 'R', 'S', ... as /proc says; the nanoseconds of processor time so far. 0: it is gone. */
char trace_state(pid_t tid, uint64_t *ran_ns);

/* A line for each thread: what it is doing. */
void trace_say_threads(FILE *to);

/* int3 at a place, until the first hit or trace_clear. */
void trace_plant(const struct place *p);
void trace_clear(void);

#endif
