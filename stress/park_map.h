/*
 * park_map.h: the instructions of a library, and which function of the source each belongs to.
 *
 * binutils knows: objdump where instructions start, addr2line the function, inlined ones too if
 * there is debugging information (-g1 is enough). A library without any is known by its exported
 * symbols.
 *
 * SYNCHRONIZATION: none; park has one thread.
 */
#ifndef PARK_MAP_H
#define PARK_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was inlined into it is part of it. */
struct function {
    char *name;   /* "function (file)"; without a file if that is not known */
    size_t first; /* of its entries in map.by_function */
    size_t count;
    unsigned stops, tries; /* park's */
};

struct place {
    uint64_t offset; /* from where the library is loaded */
    size_t first;    /* of its entries in map.stack: functions, the innermost first */
    size_t depth;
};

struct map {
    struct place *place; /* by offset */
    size_t places;
    struct function *function;
    size_t functions;
    size_t *stack; /* indices of functions, by place */
    size_t stacked;
    size_t *by_function; /* indices of places, by function */
};

/* `files`: only functions of these source files count ("malloc.c arena.c"); NULL: all. [start,
 * stop): of offsets; 0, 0 for all. Ends the process with a line if nothing is found. */
struct map map_read(const char *library, uint64_t start, uint64_t stop, const char *files);

/* NULL: no instruction that counts. */
struct place *map_at(const struct map *m, uint64_t offset);

/* "innermost < ... < outermost", in a buffer of its own. */
const char *map_say(const struct map *m, const struct place *p);

#endif
