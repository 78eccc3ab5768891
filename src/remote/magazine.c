/*
 * magazine.c: see magazine.h.
 *
 * SYNCHRONIZATION: see magazine.h.
 */
#include "magazine.h"

static void put_in(struct magazine *m, char *unit)
{
    m->unit[m->count] = unit;
    atomic_signal_fence(memory_order_seq_cst);
    registry_set_word(unit, unit_word_run(UNIT_KEPT, 1));
    m->count++;
}

static char *take_out(struct magazine *m, uint32_t slot)
{
    char *unit = m->unit[slot];
    registry_set_word(unit, UNIT_FREE);
    atomic_signal_fence(memory_order_seq_cst);
    m->unit[slot] = NULL;
    return unit;
}

/* To the front, and the others behind it, up to where it was. */
static void remember(struct magazine *m, struct segment *s)
{
    struct segment *before = s;
    for (unsigned i = 0; i < MAGAZINE_SEGMENTS; i++) {
        struct segment *was = m->segment[i];
        m->segment[i] = before;
        if (was == s)
            return;
        before = was;
    }
}

static bool is_of(const struct segment *s, const char *unit)
{
    return unit != NULL && (uintptr_t)(unit - s->region.base) < SEGMENT_SIZE;
}

/* Of the oldest `count` all that are of this segment. */
static uint64_t take_out_of(struct magazine *m, uint32_t count, const struct segment *s)
{
    uint64_t units = 0;
    for (uint32_t i = 0; i < count; i++)
        if (is_of(s, m->unit[i]))
            units |= (uint64_t)1 << segment_unit_of(take_out(m, i));
    return units;
}

/* The oldest `count`, those of one segment together. */
static void send_back(struct magazine *m, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (m->unit[i] == NULL)
            continue;
        struct segment *s = segment_of(m->unit[i]);
        segment_return_set(s, take_out_of(m, count, s), true);
        remember(m, s);
    }
    for (uint32_t i = count; i < m->count; i++) {
        m->unit[i - count] = m->unit[i];
        atomic_signal_fence(memory_order_seq_cst); /* in one slot at least */
        m->unit[i] = NULL;
    }
    m->count -= count;
}

void magazine_bound(struct magazine *m, uint32_t most)
{
    m->most = most < MAGAZINE_MOST ? most : MAGAZINE_MOST;
    if (m->count > m->most)
        send_back(m, m->count - m->most);
}

void magazine_put(struct magazine *m, char *unit)
{
    if (m->count >= m->most)
        send_back(m, m->count - m->most / 2);
    put_in(m, unit);
}

void magazine_return_row(struct magazine *m, char *first, unsigned count, bool comes_again)
{
    struct segment *s = segment_of(first);
    remember(m, s);
    segment_return(s, segment_unit_of(first), count, comes_again);
}

void magazine_return(struct magazine *m, char *unit, bool comes_again)
{
    magazine_return_row(m, unit, 1, comes_again);
}

/* The highest first: the lowest is taken next. */
static void keep(struct magazine *m, struct segment *s, uint64_t units)
{
    for (; units != 0 && m->count < MAGAZINE_MOST;) {
        unsigned unit = UNITS_PER_SEGMENT - 1 - (unsigned)__builtin_clzll(units);
        units &= ~((uint64_t)1 << unit);
        put_in(m, segment_unit(s, unit));
    }
}

static struct units take_kept(struct magazine *m)
{
    char *unit = take_out(m, --m->count);
    return (struct units){segment_of(unit), segment_unit_of(unit), 1, false};
}

/* False: none of the segments where it returned some has one with memory in it. */
static bool fill_near(struct magazine *m)
{
    for (unsigned i = 0; i < MAGAZINE_SEGMENTS && m->segment[i] != NULL; i++) {
        keep(m, m->segment[i], segment_take_dirty(m->segment[i], 1 + m->most / 2));
        if (m->count != 0)
            return true;
    }
    return false;
}

struct units magazine_take(struct magazine *m)
{
    if (m->count != 0 || fill_near(m))
        return take_kept(m);
    struct units taken = segment_take(1, UNIT_SIZE);
    if (taken.units != 0 && !taken.zeroed && m->most > 1)
        keep(m, taken.segment, segment_take_dirty(taken.segment, m->most / 2));
    return taken;
}

struct units magazine_take_row(struct magazine *m, unsigned count)
{
    struct units taken = {0};
    for (unsigned i = 0; i < MAGAZINE_SEGMENTS && m->segment[i] != NULL && taken.units == 0; i++)
        taken = segment_take_dirty_row(m->segment[i], count);
    if (taken.units != 0)
        return taken;
    return m->count != 0 ? take_kept(m) : segment_take_for_slab(count);
}

static bool has(const struct magazine *m, const char *unit)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->unit[i] == unit)
            return true;
    return false;
}

/* One that was moved up may be in two slots. */
void magazine_mend(struct magazine *m)
{
    m->count = 0;
    for (unsigned i = 0; i < MAGAZINE_MOST; i++) {
        char *unit = m->unit[i];
        m->unit[i] = NULL;
        if (unit != NULL && unit_word_kind(registry_word(unit)) == UNIT_KEPT && !has(m, unit))
            m->unit[m->count++] = unit;
    }
}
