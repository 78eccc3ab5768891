/*
 * park_map.c: see park_map.h.
 */
#include "park_map.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct named {
    char *name;
    size_t function;
};

static void *names; /* tsearch's tree of struct named */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static void *grown(void *array, size_t count, size_t bytes)
{
    return (count & (count - 1)) == 0 ? realloc(array, (count == 0 ? 1 : 2 * count) * bytes)
                                      : array;
}

static size_t function_of(struct map *m, const char *name)
{
    struct named *wanted = malloc(sizeof *wanted);
    *wanted = (struct named){strdup(name), m->functions};
    struct named *found = *(struct named **)tsearch(wanted, &names, compare_names);
    if (found != wanted) {
        free(wanted->name);
        free(wanted);
        return found->function;
    }
    m->function = grown(m->function, m->functions, sizeof *m->function);
    m->function[m->functions] = (struct function){.name = wanted->name};
    return m->functions++;
}

static FILE *open_lines(const char *library, uint64_t start, uint64_t stop)
{
    char range[96] = "", command[1024];
    if (stop != 0)
        snprintf(range, sizeof range, "--start-address=0x%lx --stop-address=0x%lx", start, stop);
    snprintf(command, sizeof command,
             "objdump -d -j .text --no-show-raw-insn %s '%s' | "
             "sed -n 's/^ *\\([0-9a-f]*\\):.*/\\1/p' | addr2line -afi -e '%s'",
             range, library, library);
    return popen(command, "r");
}

/* The base name of "path/file.c:12 (discriminator 3)". */
static char *file_of(char *line)
{
    char *slash = strrchr(line, '/');
    line[strcspn(line, ":\n")] = '\0';
    return slash != NULL ? slash + 1 : line;
}

static bool counts(const char *file, const char *files)
{
    if (*file == '\0') /* what fills the gap between two functions */
        return false;
    return files == NULL || (*file != '?' && strstr(files, file) != NULL);
}

static void add_function(struct map *m, const char *name)
{
    m->stack = grown(m->stack, m->stacked, sizeof *m->stack);
    m->stack[m->stacked++] = function_of(m, name);
    m->place[m->places - 1].depth++;
}

/* To the last place. */
static void add_named(struct map *m, const char *function, const char *file)
{
    char name[1600];
    if (*function == '?') /* stripped: by KiB */
        snprintf(name, sizeof name, "text+0x%lx", m->place[m->places - 1].offset & ~1023ul);
    else if (*file == '?')
        snprintf(name, sizeof name, "%s", function);
    else
        snprintf(name, sizeof name, "%s (%s)", function, file);
    add_function(m, name);
}

static void begin_place(struct map *m, uint64_t offset)
{
    if (m->places == 0 || m->place[m->places - 1].depth != 0) {
        m->place = grown(m->place, m->places, sizeof *m->place);
        m->places++;
    }
    m->place[m->places - 1] = (struct place){.offset = offset, .first = m->stacked};
}

/* An address, then pairs of lines: the innermost function and its file first. */
static void read_places(struct map *m, FILE *lines, const char *files)
{
    char function[512], file[1024];
    while (fgets(function, sizeof function, lines) != NULL) {
        if (strncmp(function, "0x", 2) == 0) {
            begin_place(m, strtoull(function, NULL, 16));
        } else if (fgets(file, sizeof file, lines) != NULL) {
            function[strcspn(function, ".\n")] = '\0'; /* "f.part.0" is f */
            if (counts(file_of(file), files))
                add_named(m, function, file_of(file));
        }
    }
    if (m->places != 0 && m->place[m->places - 1].depth == 0)
        m->places--;
}

static void index_by_function(struct map *m)
{
    m->by_function = malloc(m->stacked * sizeof *m->by_function);
    for (size_t i = 0; i < m->stacked; i++)
        m->function[m->stack[i]].count++;
    for (size_t f = 1; f < m->functions; f++)
        m->function[f].first = m->function[f - 1].first + m->function[f - 1].count;
    size_t *next = calloc(m->functions, sizeof *next);
    for (size_t i = 0; i < m->places; i++) {
        for (size_t k = 0; k < m->place[i].depth; k++) {
            size_t f = m->stack[m->place[i].first + k];
            m->by_function[m->function[f].first + next[f]++] = i;
        }
    }
    free(next);
}

const char *map_say(const struct map *m, const struct place *p)
{
    static char text[1024];
    size_t length = 0;
    for (size_t k = 0; k < p->depth && length < sizeof text; k++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%s", k != 0 ? " < " : "",
                                   m->function[m->stack[p->first + k]].name);
    return text;
}

struct map map_read(const char *library, uint64_t start, uint64_t stop, const char *files)
{
    struct map m = {0};
    FILE *lines = open_lines(library, start, stop);
    if (lines != NULL) {
        read_places(&m, lines, files);
        pclose(lines);
    }
    if (m.places == 0) {
        fprintf(stderr, "%s: no functions%s%s found by objdump and addr2line; giving up\n", library,
                files != NULL ? " of " : "", files != NULL ? files : "");
        exit(2);
    }
    index_by_function(&m);
    return m;
}

struct place *map_at(const struct map *m, uint64_t offset)
{
    size_t low = 0, high = m->places;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->place[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->places && m->place[low].offset == offset ? &m->place[low] : NULL;
}
