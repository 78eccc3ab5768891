/*
 * stress.h: what the scenarios share: pinned threads, a seed that is printed and can be replayed, and
 * blocks that tell who wrote them.
 *
 *     SCENARIO [SECONDS [SEED]]        2 seconds and a seed from the clock, if not given
 *
 * A block is written whole by one thread (owner, sequence number, a pattern from both over all of its
 * bytes) and checked whole by whoever frees it. So a lost happens-before between free and the next
 * malloc shows under TSan, a block that was handed out twice shows as a wrong owner, and an overlap as
 * a broken pattern.
 */
#ifndef STRESS_H
#define STRESS_H

#include <hakmem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct stamp {
    uint32_t owner;
    uint32_t sequence;
    uint64_t bytes;
};

struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
/* 0 <= result < bound */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* 16 bytes to 2 MiB, mostly small: each tier is met often. */
size_t rng_size(struct rng *rng);

struct worker {
    unsigned number;
    struct rng rng;
    uint32_t sequence;
    pthread_t thread;
    void *argument;
};

/* Reads the command line and prints the seed. */
void stress_begin(int argc, char **argv, const char *name);
/* Runs `count` threads, each pinned to a processor in turn, and joins them. */
void stress_run(unsigned count, void (*body)(struct worker *), void *argument);
/* Runs body in one thread, to be joined with pthread_join. */
void stress_start(struct worker *w, unsigned number, void (*body)(struct worker *), void *argument);
/* Ends the process: 0, after one line that says what was done. */
int stress_end(void);

/* Whether the time is up; yields now and then, so that threads meet even on one processor. */
bool stress_over(struct worker *w);

/* A stamped block of n bytes (n >= 16), NULL if hakmem gave none. */
void *block_make(struct worker *w, size_t n);
void block_stamp(struct worker *w, void *p, size_t n);
/* Ends the process with a line if the block is not as its maker left it. */
void block_check(const void *p);
/* Checks, overwrites and frees it. */
void block_free(void *p);

/* Blocks made so far, for the last line. */
extern _Atomic(uint64_t) stress_blocks;

void stress_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
