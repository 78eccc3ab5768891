/*
 * introspect.c: statistics, trimming and tuning.
 *
 * SYNCHRONIZATION: statistics walk the registry in an RCU read section (global/census.h), trimming
 * works as any slow path does.
 */
#include "heap.h"
#include "names.h"
#include "slow.h"
#include "../global/census.h"
#include "../global/os.h"
#include "../global/whale.h"

#include <errno.h>
#include <hakmem.h>
#include <limits.h>

/* ---- trimming ---- */

int hak_malloc_trim(size_t pad)
{
    struct heap *entered = heap_enter();
    struct heap *work = heap_open(entered);
    bool any = give_back_all(work, (long)min_size(pad / UNIT_SIZE, LONG_MAX));
    heap_close(entered, work);
    return any;
}

/* ---- statistics ---- */

/* What the program has, and what is in bins that can't be told or on its way. */
static size_t used_bytes(const struct census *c)
{
    return census_used_bytes(c, heap_cached_bytes());
}

struct mallinfo2 hak_mallinfo2(void)
{
    struct census c;
    census_take(&c);
    size_t used = used_bytes(&c);
    size_t arena = c.segments * SEGMENT_SIZE;
    return (struct mallinfo2){
        .arena = arena,
        .hblks = c.whales,
        .hblkhd = c.whale_bytes,
        .uordblks = used,
        .fordblks = arena - min_size(used - census_whales_used(&c), arena),
        .keepcost = c.dirty_units * UNIT_SIZE + c.cached_bytes + c.kept_bytes,
    };
}

static int to_int(size_t n)
{
    return n > INT_MAX ? INT_MAX : (int)n;
}

struct mallinfo hak_mallinfo(void)
{
    struct mallinfo2 m = hak_mallinfo2();
    return (struct mallinfo){
        .arena = to_int(m.arena),
        .hblks = to_int(m.hblks),
        .hblkhd = to_int(m.hblkhd),
        .uordblks = to_int(m.uordblks),
        .fordblks = to_int(m.fordblks),
        .keepcost = to_int(m.keepcost),
    };
}

int hak_malloc_info(int options, FILE *stream)
{
    struct census c;
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    census_take(&c);
    fprintf(stream, "<malloc version=\"hakmem-1\">\n<slabs>\n");
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        if (c.class[i].slabs != 0)
            fprintf(stream, "  <class size=\"%u\" slabs=\"%zu\" used=\"%zu\" made=\"%zu\"/>\n",
                    size_class_bytes[i], c.class[i].slabs, c.class[i].used, c.class[i].made);
    fprintf(stream, "</slabs>\n<runs count=\"%zu\" size=\"%zu\" kept=\"%zu\"/>\n", c.runs,
            c.run_bytes, c.kept_bytes);
    fprintf(stream, "<whales count=\"%zu\" size=\"%zu\" cached=\"%zu\"/>\n", c.whales,
            c.whale_bytes, c.cached_bytes);
    fprintf(stream, "<segments count=\"%zu\" size=\"%zu\" free=\"%zu\" dirty=\"%zu\"/>\n",
            c.segments, c.segments * SEGMENT_SIZE, c.free_units * UNIT_SIZE,
            c.dirty_units * UNIT_SIZE);
    fprintf(stream, "<metadata size=\"%zu\"/>\n<used size=\"%zu\"/>\n</malloc>\n", c.meta_bytes,
            used_bytes(&c));
    return ferror(stream) != 0 ? -1 : 0;
}

static void say_class(const struct census *c, unsigned i)
{
    const struct census_class *class = &c->class[i];
    if (class->slabs != 0)
        os_say("%6u byte blocks: %8zu slabs, %10zu used of %10zu made", size_class_bytes[i],
               class->slabs, class->used, class->made);
}

void hak_malloc_stats(void)
{
    struct census c;
    census_take(&c);
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        say_class(&c, i);
    os_say("runs: %zu, %zu KiB; %zu KiB kept", c.runs, c.run_bytes / 1024, c.kept_bytes / 1024);
    os_say("whales: %zu, %zu KiB, of which cached %zu KiB", c.whales, c.whale_bytes / 1024,
           c.cached_bytes / 1024);
    os_say("segments: %zu, %zu KiB, of which free %zu KiB (%zu KiB hold memory)", c.segments,
           c.segments * SEGMENT_SIZE / 1024, c.free_units * UNIT_SIZE / 1024,
           c.dirty_units * UNIT_SIZE / 1024);
    os_say("metadata: %zu KiB; in use: %zu KiB", c.meta_bytes / 1024, used_bytes(&c) / 1024);
}

/* ---- tuning ---- */

int hak_mallopt(int parameter, int value)
{
    switch (parameter) {
    case M_TRIM_THRESHOLD:
        segment_set_purge_limit(value < 0 ? LONG_MAX : value / (long)UNIT_SIZE);
        return 1;
    case M_MXFAST:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
        return 1;
    default:
        return 0;
    }
}

HAK_ALIAS(malloc_trim, hak_malloc_trim)
HAK_ALIAS(mallinfo, hak_mallinfo)
HAK_ALIAS(mallinfo2, hak_mallinfo2)
HAK_ALIAS(malloc_info, hak_malloc_info)
HAK_ALIAS(malloc_stats, hak_malloc_stats)
HAK_ALIAS(mallopt, hak_mallopt)
