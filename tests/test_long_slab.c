/*
 * test_long_slab.c: slabs of four units: who gets one, that each of its units leads to it, that all go
 * and come together, and what a fork finds between two steps.
 */
#include "testing.h"

#include "remote/owned.h"

#include <string.h>

#define CLASS 28u /* 5120 bytes: 51 blocks a long slab */
#define SMALL 23u /* 2048 */
#define UNITS SLAB_UNITS_LONG

static struct owned o, other;

static void init(struct owned *of, uintptr_t number)
{
    owned_init(of, unit_owner(number));
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
        owned_set_none(of, i, false);
    of->part = MIB(16);
}

static int set_up(void **state)
{
    (void)state;
    init(&o, 1);
    init(&other, 2);
    return 0;
}

static long used(void)
{
    return segment_used_bytes() / (long)UNIT_SIZE;
}

static bool all_words_are(const struct slab *s, uintptr_t word)
{
    for (unsigned i = 0; i < UNITS; i++)
        if (registry_word(s->base + i * UNIT_SIZE) != word)
            return false;
    return true;
}

enum { MOST = SIZE_SLAB_BYTES / 2048 };
static struct block *block[MOST];

/* All of it, in the order of their addresses. How many. */
static unsigned take_all(struct slab *s)
{
    unsigned count = 0;
    while (slab_has_room_owner(s))
        for (struct block *b = owned_take(&o, s).first; b != NULL; b = b->next)
            block[count++] = b;
    return count;
}

static void put_back(struct owned *by, struct slab *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        owned_push_remote(by, s, chain_of_one(block[i]));
}

static struct slab *find_long(void)
{
    struct slab *s = owned_find(&o, CLASS);
    assert_int_equal(slab_units(s), UNITS);
    assert_int_equal((uintptr_t)s->base % (UNITS * UNIT_SIZE), 0);
    return s;
}

static void test_each_unit_leads_to_it(void **state)
{
    (void)state;
    const size_t bytes = size_class_bytes[CLASS];
    long before = used();
    struct slab *s = find_long();
    assert_int_equal(used(), before + UNITS);
    assert_int_equal(owned_count(&o), UNITS);
    assert_true(all_words_are(s, owned_token(&o, CLASS)));
    unsigned count = take_all(s);
    assert_int_equal(count, SIZE_SLAB_BYTES / bytes);
    assert_int_equal(owned_count(&o), UNITS);
    for (unsigned i = 0; i < count; i++) {
        char *p = (char *)block[i];
        assert_ptr_equal(p, s->base + i * bytes);
        assert_ptr_equal(slab_of(p), s);
        assert_ptr_equal(slab_of(p + bytes - 1), s);
        assert_int_equal(slab_block_number(s, p), i);
        assert_true(slab_is_block_start(s, p) && !slab_is_block_start(s, p + 16));
        memset(p, 1, bytes);
    }
    char *base = s->base;
    put_back(&o, s, count);
    assert_int_equal(used(), before);
    for (unsigned i = 0; i < UNITS; i++)
        assert_int_equal(registry_word(base + i * UNIT_SIZE), UNIT_FREE);
    assert_int_equal(owned_count(&o), 0);
    assert_int_equal(o.idle_bytes, 0);
}

/* A chain may begin in one unit and end in another, before it or behind it. */
static void test_chains_cross_units(void **state)
{
    (void)state;
    struct slab *s = find_long();
    unsigned count = take_all(s), last = count - 1;
    block[0]->next = block[last];
    owned_push_remote(&other, s, chain_make(block[0], block[last], 2));
    block[last - 1]->next = block[1];
    owned_push_remote(&other, s, chain_make(block[last - 1], block[1], 2));
    assert_int_equal(slab_used(s), count);
    owned_push_remote(&o, s, chain_of_one(block[2])); /* takes over what the other has pushed */
    assert_int_equal(slab_used(s), count - 5);
    struct chain chain = owned_take(&o, s);
    assert_int_equal(chain.count, 5);
    assert_null(chain_last(chain)->next);
    put_back(&o, s, count);
    assert_int_equal(atomic_load(&s->owner), SLAB_FREE);
}

static void test_all_words_change_hands(void **state)
{
    (void)state;
    struct slab *s = find_long();
    unsigned count = take_all(s);
    owned_disown_all(&o);
    assert_int_equal(atomic_load(&s->owner), SLAB_UNOWNED);
    assert_true(all_words_are(s, unit_word(0, CLASS)));
    assert_true(
        owned_put_or_claim(&other, slab_of(block[count - 1]), chain_of_one(block[count - 1])));
    assert_true(owned_has(&other, s));
    assert_true(all_words_are(s, owned_token(&other, CLASS)));
    put_back(&other, s, count - 1);
    assert_true(all_words_are(s, UNIT_FREE));
}

static unsigned units_of_next(unsigned class_no)
{
    struct slab *s = owned_find(&o, class_no);
    unsigned units = slab_units(s);
    struct chain few = owned_take_few(&o, s, 0);
    owned_push_remote(&o, s, few);
    owned_disown_all(&o);
    return units;
}

static void test_who_gets_one(void **state)
{
    (void)state;
    assert_int_equal(units_of_next(CLASS), UNITS);
    assert_int_equal(units_of_next(SMALL), 1);
    assert_int_equal(units_of_next(SIZE_CLASS_COUNT - 1), 1);
    owned_set_none(&o, CLASS, true); /* not in demand */
    assert_int_equal(units_of_next(CLASS), 1);
    owned_set_none(&o, CLASS, false);
    o.part = MIB(2);
    assert_int_equal(units_of_next(CLASS), 1);
}

static struct units whole;

/* A segment of which some units are free and hold memory; no other does. */
static void free_units_of_a_segment(uint64_t units)
{
    segment_purge(0);
    whole = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    segment_return_set(whole.segment, units, true);
}

static void take_whole_again(uint64_t units)
{
    segment_return_set(whole.segment, ~units, true);
}

/* Single units with memory in them rather than rows without; rows without rather than none. */
static void test_memory_goes_before_length(void **state)
{
    (void)state;
    const uint64_t each_second = UINT64_MAX / 3, a_row = 0xff00;
    struct units other_segment = segment_take(1, UNIT_SIZE);
    free_units_of_a_segment(each_second);
    assert_ptr_not_equal(other_segment.segment, whole.segment);
    struct slab *s = owned_find(&o, CLASS);
    assert_int_equal(slab_units(s), 1);
    assert_ptr_equal(segment_of(s->base), whole.segment);
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    take_whole_again(each_second);
    free_units_of_a_segment(each_second | a_row);
    s = find_long();
    assert_ptr_equal(segment_of(s->base), whole.segment);
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    take_whole_again(each_second | a_row);
    segment_purge(0);
    s = find_long();
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    segment_return(other_segment.segment, other_segment.first, 1, true);
}

/* Not that of a row that lies across two. */
static void test_a_row_lies_at_a_multiple_of_its_length(void **state)
{
    (void)state;
    free_units_of_a_segment(0x3c);
    struct units row = segment_take_dirty_row(whole.segment, UNITS);
    assert_int_equal(row.units, 0);
    struct slab *s = owned_find(&o, CLASS);
    assert_int_equal(slab_units(s), 1);
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    take_whole_again(0x3c);
}

/* Not the lowest row with memory in it, but the last one. */
static void test_it_is_taken_where_it_was_returned(void **state)
{
    (void)state;
    static struct block *of_lowest[MOST];
    segment_purge(0);
    struct slab *lowest = find_long(), *s = lowest;
    unsigned count = take_all(lowest);
    memcpy(of_lowest, block, sizeof block);
    while (segment_of_slab(s) == segment_of_slab(lowest) || slab_units(s) == 1) {
        take_all(s);
        s = owned_find(&o, CLASS);
    }
    o.taken = 1000; /* it comes again */
    for (unsigned i = 0; i < count; i++)
        owned_push_remote(&o, lowest, chain_of_one(of_lowest[i]));
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    assert_true(atomic_load(&lowest->owner) == SLAB_FREE && atomic_load(&s->owner) == SLAB_FREE);
    struct units row = magazine_take_row(&o.magazine, UNITS);
    assert_ptr_equal(&row.segment->slab[row.first], s);
    magazine_return_row(&o.magazine, segment_unit(row.segment, row.first), UNITS, true);
}

/* A descriptor that is linked in a stack of the class that it was of loses that, wherever it lies in
 * the row. */
static void test_stale_links_are_undone(void **state)
{
    (void)state;
    const uint64_t a_row = 0xf;
    free_units_of_a_segment(a_row);
    struct slab *first = owned_find(&o, SMALL);
    while (slab_has_room_owner(first))
        owned_take(&o, first);
    struct slab *second = owned_find(&o, SMALL);
    assert_ptr_equal(second, first + 1);
    struct chain of_second = owned_take_few(&o, second, 0);
    assert_int_equal(atomic_load(&second->linked[0]), SMALL + 1);
    owned_push_remote(&o, second, of_second);
    assert_int_equal(atomic_load(&second->owner), SLAB_FREE);
    uint32_t used_of_first = slab_used(first);
    for (uint32_t i = 0; i < used_of_first; i++)
        owned_push_remote(
            &o, first, chain_of_one((struct block *)(first->base + i * size_class_bytes[SMALL])));
    struct slab *s = find_long();
    assert_ptr_equal(s, first);
    assert_int_equal(atomic_load(&second->linked[0]), 0);
    owned_push_remote(&o, s, owned_take_few(&o, s, 0));
    take_whole_again(a_row);
}

/* A thread vanished while it made one, or gave one back. */
static void test_what_was_on_its_way_is_taken_back(void **state)
{
    (void)state;
    struct slab *made = find_long();
    take_all(made);
    struct slab *freed = find_long();
    atomic_store(&freed[1].units, 1); /* as of slabs that they were before */
    atomic_store(&freed[3].units, 1);
    char *base = freed->base;
    long before = used();
    registry_set_word(made->base + 2 * UNIT_SIZE, UNIT_FREE); /* not all say so yet */
    registry_set_word(freed->base, UNIT_FREE);                /* it began with the first */
    segment_take_back();
    assert_int_equal(used(), before - (long)UNITS);
    assert_int_equal(atomic_load(&freed->owner), SLAB_FREE);
    for (unsigned i = 0; i < UNITS; i++)
        assert_int_equal(registry_word(base + i * UNIT_SIZE), UNIT_FREE);
    assert_true(owned_has(&o, made));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, set_up)
    const struct CMUnitTest tests[] = {
        TEST(test_each_unit_leads_to_it),
        TEST(test_chains_cross_units),
        TEST(test_all_words_change_hands),
        TEST(test_who_gets_one),
        TEST(test_memory_goes_before_length),
        TEST(test_a_row_lies_at_a_multiple_of_its_length),
        TEST(test_it_is_taken_where_it_was_returned),
        TEST(test_stale_links_are_undone),
        TEST(test_what_was_on_its_way_is_taken_back),
    };
    return RUN_TESTS(tests);
}
