/*
 * test_huge.c: huge pages are asked for where memory is written to, there is use enough, and they
 * come fast; and nowhere else.
 */
#include "testing.h"

#include "global/huge.h"
#include "global/os.h"
#include "global/segment.h"

#include "hakmem.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROBE_EVERY = 16, MANY = 2 * PROBE_EVERY, PROBES = 2, ADVISED_MOST = 8192 };

static const size_t size = SEGMENT_SIZE;

static struct huge_kind new_kind(void)
{
    huge_set_mode(HUGE_WHERE_USED);
    return (struct huge_kind){0};
}

/* As many of 64 of its pages are written to. */
static char *map(size_t of_64)
{
    char *p = os_map_aligned(size, size);
    assert_non_null(p);
    for (size_t at = 0; at < size; at += 4096)
        if (at / 4096 % 64 < of_64)
            p[at] = 1;
    return p;
}

/* How many of so many mappings ask, which are gone then; the others stay, to be looked at. This
 * machine's own huge pages may come as slow as they like. */
static int asked(struct huge_kind *kind, int mappings, size_t of_64)
{
    int count = 0;
    for (int i = 0; i < mappings; i++) {
        huge_set_mode(HUGE_WHERE_USED);
        char *p = map(of_64);
        enum huge_state state = huge_ask(kind, p, size);
        if (state == HUGE_NOT_ASKED)
            continue;
        os_unmap(p, size);
        huge_gone(state);
        count++;
    }
    return count;
}

/* 0 or 1; -1: the system has no huge pages. */
static int has_flag(const void *p, const char *flag)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512];
    bool here = false;
    int found = -1;
    unsigned long from, to;
    assert_non_null(maps);
    while (found < 0 && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)p >= from && (uintptr_t)p < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    fclose(maps);
    return access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) == 0 ? found : -1;
}

static void test_all_but_the_probes_ask_where_memory_is_written_to(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    assert_int_equal(asked(&kind, 1, 64), 0); /* the second finds that it is full */
    assert_in_range(asked(&kind, MANY, 64), MANY - PROBES - 1, MANY - PROBES + 1);
    assert_in_range(asked(&kind, MANY, 52), MANY - PROBES - 1, MANY - PROBES + 1);
}

/* Of two, or of eight, that a program makes by turns. */
static void test_the_probes_are_not_always_the_same(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    int odd = 0, even = 0;
    asked(&kind, 1, 64);
    for (int i = 0; i < 4 * MANY; i++)
        *(i % 2 == 0 ? &even : &odd) += 1 - asked(&kind, 1, 52);
    assert_in_range(odd, PROBES, 3 * PROBES);
    assert_in_range(even, PROBES, 3 * PROBES);
}

static void test_none_ask_where_it_is_not(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    assert_int_equal(asked(&kind, MANY, 40), 0);
    struct huge_kind changes = new_kind();
    asked(&changes, MANY, 64);
    asked(&changes, 3 * PROBE_EVERY, 8); /* until such a one is looked at */
    assert_int_equal(asked(&changes, MANY, 8), 0);
}

/* A quarter of it is full, at the end, as in a stack. */
static void test_all_of_a_mapping_is_looked_at(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    for (int i = 0; i < 8; i++) {
        char *p = map(0);
        memset(p + size / 4 * 3, 1, size / 4);
        assert_int_equal(huge_ask(&kind, p, size), HUGE_NOT_ASKED);
    }
}

/* It may be filled yet: it is given up for another one only when several more have been made. */
static void test_a_mapping_that_is_new_may_fill_up(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    char *first = map(0);
    assert_int_equal(huge_ask(&kind, first, size), HUGE_NOT_ASKED);
    assert_int_equal(asked(&kind, 6, 0), 0);
    memset(first, 1, size);
    assert_int_not_equal(huge_ask(&kind, map(0), size), HUGE_NOT_ASKED);
    struct huge_kind empty = new_kind();
    asked(&empty, 10, 0); /* by then it is the old one */
    assert_int_equal(asked(&empty, 1, 64), 0);
    assert_int_not_equal(empty.old, 0);
}

/* And meanwhile others ask, by an older one that is. */
static void test_one_that_is_new_takes_nothing_back(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, 2, 64);
    kind.made = 0;
    kind.new = 0;
    assert_int_equal(asked(&kind, 1, 0), 0); /* the first of all is a probe */
    assert_int_not_equal(kind.new, 0);
    assert_int_equal(asked(&kind, 6, 0), 6);
}

static void test_little_use_does_not_ask(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    kind.used_least = MIB(2048);
    assert_int_equal(asked(&kind, 8, 64), 0);
    struct huge_kind other = new_kind();
    asked(&other, 4, 64);
    assert_int_equal(huge_ask(&other, map(0), MIB(1)),
                     HUGE_NOT_ASKED); /* no page could be a huge one */
}

static void test_much_larger_ones_do_not_ask(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, 8, 64);
    kind.made = 9; /* no probe */
    assert_int_equal(huge_ask(&kind, os_map_aligned(6 * size, size), 6 * size), HUGE_NOT_ASKED);
    huge_set_mode(HUGE_WHERE_USED);
    kind.made = 9;
    assert_int_not_equal(huge_ask(&kind, os_map_aligned(4 * size, size), 4 * size), HUGE_NOT_ASKED);
}

static void test_what_goes_is_looked_at_before(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    kind.made = 9;
    for (int i = 0; i < 2; i++) { /* the second: the first has been written to, then gone */
        char *p = map(64);
        assert_int_equal(huge_ask(&kind, p, size) == HUGE_NOT_ASKED, i == 0);
        huge_look(&kind, p, size);
        huge_forget(&kind, p, size);
        os_unmap(p, size);
    }
    struct huge_kind other = new_kind();
    char *p = map(64);
    huge_ask(&other, p, size);
    huge_forget(&other, p, size); /* it is there still, to be seen if it were looked at */
    assert_int_equal(asked(&other, MANY, 0), 0);
}

/* Where the system does not tell, as where nothing is mapped. */
static void test_what_is_not_known_is_not_used(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    char *p = map(64), *other = map(0);
    os_unmap(p, size);
    for (int i = 0; i < 8; i++) {
        kind.old = (uintptr_t)p | size / 4096;
        assert_int_equal(huge_ask(&kind, other, size), HUGE_NOT_ASKED);
        huge_forget(&kind, p, size);
    }
}

/* How many do not ask, before one does. Neither probes nor the time that this machine takes come into
 * it, since what is asked for is there already. */
static int paused(struct huge_kind *kind)
{
    char *there = map(64);
    for (int pause = 0;; pause++) {
        kind->made = 9;
        if (huge_ask(kind, there, size) != HUGE_NOT_ASKED)
            return pause;
    }
}

/* Of 5 ms each, where 512 small ones take 1. How many until it is too much. */
static int slow_ones(void)
{
    int count = 1;
    while (huge_note_touch(5000) && count < 100)
        count++;
    return count;
}

static void new_times(unsigned small_nanoseconds)
{
    huge_set_mode(HUGE_WHERE_USED);
    huge_note_small(small_nanoseconds);
}

static void test_slow_ones_make_it_pause(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, MANY, 64);
    new_times(2000);
    assert_int_equal(slow_ones(), 3);
    assert_false(huge_note_touch(9000)); /* of another thread, in the same moment */
    assert_int_equal(paused(&kind), 8);
    assert_int_equal(slow_ones(), 2);
    assert_int_equal(paused(&kind), 32);
    for (int fast = 0; fast < 8; fast++)
        huge_note_touch(0);
    slow_ones();
    assert_int_equal(paused(&kind), 8); /* the fast ones have made up for all that */
}

/* With no fast one in between. */
static void test_slow_ones_make_it_pause_for_longer(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, MANY, 64);
    char *there = map(64);
    new_times(2000);
    for (int expected = 8; expected <= 512; expected *= 4) {
        slow_ones();
        for (int i = 0; i < expected; i++) {
            kind.made = 9;
            assert_int_equal(huge_ask(&kind, there, size), HUGE_NOT_ASKED);
        }
    }
    assert_int_equal(paused(&kind), 0);
}

static void test_fast_ones_make_up_for_slow_ones(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, MANY, 64);
    new_times(2000);
    for (int i = 0; i < 10; i++) {
        assert_true(huge_note_touch(5000));
        for (int fast = 0; fast < 5; fast++)
            assert_true(huge_note_touch(100));
    }
    assert_int_equal(paused(&kind), 0);
}

/* As the machine is: where small pages take 10 us each, huge ones of 5 ms are fast. */
static void test_slow_is_what_takes_longer_than_small_ones(void **state)
{
    (void)state;
    new_times(10000);
    for (int i = 0; i < 100; i++)
        assert_true(huge_note_touch(5000));
    huge_note_small(1000 * 1000 * 1000); /* a small one that was slow for once */
    for (int i = 0; i < 10; i++)
        huge_note_small(2000);
    assert_in_range(slow_ones(), 2, 4);
}

/* Where the system gives more than one page at a touch, a small one's time is not known. */
static void test_pages_that_came_with_others_are_not_timed(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    assert_int_equal(huge_ask(&kind, map(64), size), HUGE_NOT_ASKED);
    for (int i = 0; i < 32; i++) /* less than 512 small ones take if nothing is known */
        assert_true(huge_note_touch(700));
}

static void test_the_option_is_obeyed(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, MANY, 64);
    huge_set_mode(HUGE_NEVER);
    assert_int_equal(huge_ask(&kind, map(64), size), HUGE_NOT_ASKED);
    struct huge_kind unknown = new_kind();
    huge_set_mode(HUGE_ALWAYS);
    char *p = map(0);
    assert_int_equal(huge_ask(&unknown, p, size), HUGE_ASKED);
    assert_int_not_equal(has_flag(p, " hg"), 0);
    huge_set_mode(HUGE_WHERE_USED);
}

static void test_what_grows_asks_if_it_is_written_to(void **state)
{
    (void)state;
    huge_set_mode(HUGE_WHERE_USED);
    char *empty = os_map_aligned(2 * size, size), *full = os_map_aligned(2 * size, size);
    memset(full, 1, size);
    assert_int_equal(huge_grow(HUGE_NOT_ASKED, empty, size, 2 * size), HUGE_NOT_ASKED);
    assert_int_equal(huge_grow(HUGE_NOT_ASKED, full, size, 3 * size), HUGE_NOT_ASKED);
    assert_int_equal(huge_grow(HUGE_NOT_ASKED, full, size, size + MIB(1)), HUGE_NOT_ASKED);
    assert_int_not_equal(has_flag(full, " hg"), 1);
    assert_int_equal(huge_grow(HUGE_NOT_ASKED, full, size, 2 * size), HUGE_ASKED);
    assert_int_not_equal(has_flag(full + 2 * size - 1, " hg"), 0);
    assert_int_equal(huge_grow(HUGE_ASKED, full, size, 2 * size), HUGE_STOPPED);
    assert_int_not_equal(has_flag(full, " hg"), 1);
}

/* Each may be two more mappings. */
static void test_their_number_is_bounded(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    asked(&kind, 8, 64);
    kind.made = 9;
    char *full = os_map_aligned(2 * size, size);
    memset(full, 1, size);
    int more = 0;
    for (; more <= ADVISED_MOST; more++)
        if (huge_grow(HUGE_NOT_ASKED, full, size, 2 * size) != HUGE_ASKED)
            break;
    assert_in_range(more, ADVISED_MOST / 2, ADVISED_MOST);
    assert_int_equal(huge_ask(&kind, map(0), size), HUGE_NOT_ASKED);
    for (; more > 0; more--)
        huge_gone(HUGE_ASKED);
    kind.made = 9;
    assert_int_not_equal(huge_ask(&kind, map(0), size), HUGE_NOT_ASKED);
}

/* A block that realloc makes longer, beyond what its pages can tell of. */
static void test_a_block_that_grows_asks_by_turns(void **state)
{
    (void)state;
    huge_set_mode(HUGE_WHERE_USED);
    char *p = hak_malloc(MIB(5));
    memset(p, 1, MIB(5));
    p = hak_realloc(p, MIB(10));
    assert_int_not_equal(has_flag(p, " hg"), 0);
    p = hak_realloc(p, MIB(20)); /* one byte of each huge page would make it seem to be full */
    assert_int_not_equal(has_flag(p, " hg"), 1);
    memset(p, 1, MIB(20));
    p = hak_realloc(p, MIB(30));
    assert_int_not_equal(has_flag(p, " hg"), 0);
    hak_free(p);
}

static void test_zeroes_do_not_ask(void **state)
{
    (void)state;
    huge_set_mode(HUGE_ALWAYS);
    char *p = hak_malloc(MIB(40)), *zeroes = hak_calloc(1, MIB(40));
    assert_int_not_equal(has_flag(p, " hg"), 0);
    assert_int_not_equal(has_flag(zeroes, " hg"), 1);
    hak_free(p);
    hak_free(zeroes);
    huge_set_mode(HUGE_WHERE_USED);
}

/* Of the whole system; -1: it does not tell. */
static long pages_partly_mapped(void)
{
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/stats/"
                       "nr_anon_partially_mapped",
                       "r");
    long count = -1;
    if (file != NULL && fscanf(file, "%ld", &count) != 1)
        count = -1;
    if (file != NULL)
        fclose(file);
    return count;
}

/* From here on, in segments that are new: others may have been stopped by tests before. */
static void ask_always_anew(void)
{
    huge_set_mode(HUGE_ALWAYS);
    segment_purge(0);
    segment_drop_empty();
}

/* Else the system might fill up again what was given back. */
static void test_what_is_purged_does_not_ask_any_more(void **state)
{
    (void)state;
    enum { SEGMENTS = 8 }; /* more than stay mapped when they are empty */
    struct units taken[SEGMENTS];
    ask_always_anew();
    for (int i = 0; i < SEGMENTS; i++)
        taken[i] = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    struct segment *last = taken[SEGMENTS - 1].segment;
    memset(segment_unit(last, 0), 1, SEGMENT_SIZE);
    assert_int_not_equal(has_flag(segment_unit(last, 0), " hg"), 0);
    segment_return(last, 1, 1, false);
    long partly_mapped = pages_partly_mapped();
    segment_purge(0);
    assert_true(pages_partly_mapped() <= partly_mapped); /* it went back as small ones */
    assert_int_not_equal(has_flag(segment_unit(last, 0), " hg"), 1);
    assert_int_not_equal(has_flag(segment_unit(last, 0), " nh"), 0);
    assert_int_equal(segment_take_at(last, 1, 1, &taken[0].zeroed), true);
    for (int i = 0; i < SEGMENTS; i++)
        segment_return(taken[i].segment, 0, UNITS_PER_SEGMENT, false);
    huge_set_mode(HUGE_WHERE_USED);
}

/* Most of a huge page would go back at once. */
static void test_none_ask_where_nothing_is_to_stay(void **state)
{
    (void)state;
    ask_always_anew();
    long limit = segment_purge_limit();
    segment_set_purge_limit(0);
    struct units taken = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    assert_int_not_equal(has_flag(segment_unit(taken.segment, 0), " hg"), 1);
    segment_set_purge_limit(limit);
    struct units next = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    assert_int_not_equal(has_flag(segment_unit(next.segment, 0), " hg"), 0);
    segment_return(taken.segment, 0, UNITS_PER_SEGMENT, false);
    segment_return(next.segment, 0, UNITS_PER_SEGMENT, false);
    huge_set_mode(HUGE_WHERE_USED);
}

enum { HALF = UNITS_PER_HALF, HALF_BYTES = SEGMENT_SIZE / SEGMENT_HALVES };

/* All of it is in use. */
static struct segment *new_segment(void)
{
    return segment_take(UNITS_PER_SEGMENT, UNIT_SIZE).segment;
}

static void return_segment(struct segment *s)
{
    segment_return(s, 0, UNITS_PER_SEGMENT, false);
    segment_purge(0);
}

/* It comes again as a whole. */
static void test_a_huge_page_that_is_purged_whole_may_come_again(void **state)
{
    (void)state;
    bool zeroed;
    ask_always_anew();
    struct segment *s = new_segment();
    memset(segment_unit(s, 0), 1, SEGMENT_SIZE);
    segment_return(s, HALF, HALF, false);
    segment_purge(0);
    assert_int_equal(os_resident(segment_unit(s, HALF), HALF_BYTES, 1), 0);
    assert_int_not_equal(has_flag(segment_unit(s, HALF), " hg"), 0);
    assert_true(segment_take_at(s, HALF, HALF, &zeroed));
    return_segment(s);
    huge_set_mode(HUGE_WHERE_USED);
}

/* One unit was used, and all of the page is there. */
static void test_all_of_a_huge_page_is_purged(void **state)
{
    (void)state;
    bool zeroed;
    ask_always_anew();
    struct segment *s = new_segment();
    return_segment(s);
    assert_true(segment_take_at(s, 0, 1, &zeroed));
    assert_true(segment_take_at(s, HALF, 2, &zeroed));
    *segment_unit(s, 0) = 1;
    *segment_unit(s, HALF) = 1;
    segment_return(s, 0, 1, false);
    segment_return(s, HALF, 1, false);
    segment_purge(0);
    assert_int_equal(os_resident(segment_unit(s, 0), HALF_BYTES, 1), 0);
    assert_in_range(os_resident(segment_unit(s, HALF), HALF_BYTES, 1), 0, UNIT_SIZE);
    segment_return(s, HALF + 1, 1, false);
    segment_purge(0);
    huge_set_mode(HUGE_WHERE_USED);
}

static void test_huge_pages_that_are_free_are_purged_first(void **state)
{
    (void)state;
    bool zeroed;
    ask_always_anew();
    struct segment *s = new_segment(), *other = new_segment();
    struct segment *low = s->index < other->index ? s : other, *high = low == s ? other : s;
    segment_set_purge_limit(UNITS_PER_SEGMENT);
    segment_return(low, 0, HALF, false);
    segment_return(high, 0, HALF - 1, false);
    segment_purge(HALF);
    assert_int_not_equal(has_flag(segment_unit(high, 0), " hg"), 0);
    assert_int_equal(segment_dirty_units(), HALF - 1);
    segment_purge(0);
    assert_int_not_equal(has_flag(segment_unit(high, 0), " hg"), 1);
    assert_int_equal(segment_dirty_units(), 0);
    assert_true(segment_take_at(low, 0, HALF, &zeroed));
    assert_true(segment_take_at(high, 0, HALF - 1, &zeroed));
    return_segment(low);
    return_segment(high);
    huge_set_mode(HUGE_WHERE_USED);
}

/* A unit of it is as new as one of its own pages, once. */
static void test_what_came_with_a_huge_page_is_new_once(void **state)
{
    (void)state;
    bool zeroed;
    ask_always_anew();
    struct segment *s = new_segment();
    assert_int_equal(segment_first_use(s, 0, UNITS_PER_SEGMENT), 0); /* they were zeroed */
    for (int i = 0; i < 2; i++) {
        return_segment(s);
        assert_true(segment_take_at(s, 0, 1, &zeroed));
        assert_true(zeroed);
        assert_int_equal(segment_first_use(s, 0, 1), 0);
        assert_true(segment_take_at(s, 1, HALF + 1, &zeroed));
        assert_int_equal(segment_first_use(s, 1, 2), 2);
        assert_int_equal(segment_first_use(s, 1, 3), 1);
        assert_true(segment_take_at(s, HALF + 2, HALF - 2, &zeroed));
        assert_int_equal(segment_first_use(s, HALF, HALF), HALF - 2);
    }
    return_segment(s);
    huge_set_mode(HUGE_WHERE_USED);
}

/* Though small blocks are written to, buffers need not be. */
static void test_buffers_are_asked_for_by_how_buffers_are_used(void **state)
{
    (void)state;
    enum { BLOCKS = 64 * 32, BUFFERS = 64 };
    static void *block[BLOCKS], *buffer[BUFFERS];
    hak_malloc_trim(0);
    for (int i = 0; i < BLOCKS; i++)
        memset(block[i] = hak_malloc(KIB(32)), 1, KIB(32));
    for (int i = 0; i < BUFFERS; i++) {
        huge_set_mode(HUGE_WHERE_USED);
        buffer[i] = hak_malloc(MIB(1));
    }
    for (int i = BUFFERS / 2; i < BUFFERS; i++)
        assert_int_not_equal(has_flag(buffer[i], " hg"), 1);
    for (int i = 0; i < BUFFERS; i++)
        hak_free(buffer[i]);
    for (int i = 0; i < BLOCKS; i++)
        hak_free(block[i]);
}

/* A cached one that is made longer is like a new one, not like one that realloc makes longer. */
static void test_a_block_in_the_place_of_another_goes_on_asking(void **state)
{
    (void)state;
    huge_set_mode(HUGE_WHERE_USED);
    void *full = hak_malloc(MIB(8)), *next = NULL;
    memset(full, 1, MIB(8));
    for (int i = 0; i < 2; i++) { /* one of them may be a probe */
        hak_free(next);
        hak_malloc_trim(0);
        huge_set_mode(HUGE_WHERE_USED);
        next = hak_malloc(MIB(8));
    }
    assert_int_not_equal(has_flag(next, " hg"), 0);
    hak_free(next);
    void *longer = hak_malloc(MIB(11));
    assert_ptr_equal(longer, next);
    assert_int_not_equal(has_flag(longer, " hg"), 0);
    hak_free(longer);
    hak_free(full);
    hak_malloc_trim(0);
}

/* Blocks that fill some MiB, and how many of them are in places that have asked. */
static int blocks_that_asked(void **block, int mib)
{
    int count = 0;
    for (int i = 0; i < mib * 32; i++) {
        if (i % 32 == 0)
            huge_set_mode(HUGE_WHERE_USED);
        memset(block[i] = hak_malloc(KIB(32)), 1, KIB(32));
    }
    for (int i = 0; i < mib * 32; i += 16)
        count += has_flag(block[i], " hg") == 1 || (mib > 16 && has_flag(block[i], " nh") == 1);
    return count;
}

static void free_blocks(void **block, int mib)
{
    for (int i = 0; i < mib * 32; i++)
        hak_free(block[i]);
}

static void test_what_is_only_mapped_is_not_used(void **state)
{
    (void)state;
    struct huge_kind kind = new_kind();
    kind.used_least = os_peak_resident() + MIB(512); /* more than a sanitizer makes of 8 mappings */
    void *mapped = hak_malloc(2 * kind.used_least);
    int count = asked(&kind, 8, 64);
    hak_free(mapped);
    assert_int_equal(count, 0);
}

/* The first of all tests: what was in use of late counts. */
static void test_a_heap_that_grows_asks_from_8_mib_on(void **state)
{
    (void)state;
    static void *small[6 * 32], *more[52 * 32];
    assert_int_equal(blocks_that_asked(small, 6), 0);
    int asked_for = blocks_that_asked(more, 52);
    if (has_flag(more[0], " hg") >= 0)
        assert_in_range(asked_for, 52, 2 * 52 - 1);
    free_blocks(small, 6);
    free_blocks(more, 52);
}

static void *use;

static int use_much(void **state)
{
    (void)state;
    use = hak_malloc(MIB(64));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_heap_that_grows_asks_from_8_mib_on),
        cmocka_unit_test(test_a_block_in_the_place_of_another_goes_on_asking),
        cmocka_unit_test(test_what_is_only_mapped_is_not_used),
        cmocka_unit_test(test_buffers_are_asked_for_by_how_buffers_are_used),
        cmocka_unit_test_setup(test_all_but_the_probes_ask_where_memory_is_written_to, use_much),
        cmocka_unit_test(test_the_probes_are_not_always_the_same),
        cmocka_unit_test(test_none_ask_where_it_is_not),
        cmocka_unit_test(test_all_of_a_mapping_is_looked_at),
        cmocka_unit_test(test_a_mapping_that_is_new_may_fill_up),
        cmocka_unit_test(test_one_that_is_new_takes_nothing_back),
        cmocka_unit_test(test_little_use_does_not_ask),
        cmocka_unit_test(test_much_larger_ones_do_not_ask),
        cmocka_unit_test(test_what_goes_is_looked_at_before),
        cmocka_unit_test(test_what_is_not_known_is_not_used),
        cmocka_unit_test(test_slow_ones_make_it_pause),
        cmocka_unit_test(test_slow_ones_make_it_pause_for_longer),
        cmocka_unit_test(test_fast_ones_make_up_for_slow_ones),
        cmocka_unit_test(test_slow_is_what_takes_longer_than_small_ones),
        cmocka_unit_test(test_pages_that_came_with_others_are_not_timed),
        cmocka_unit_test(test_the_option_is_obeyed),
        cmocka_unit_test(test_what_grows_asks_if_it_is_written_to),
        cmocka_unit_test(test_their_number_is_bounded),
        cmocka_unit_test(test_a_block_that_grows_asks_by_turns),
        cmocka_unit_test(test_zeroes_do_not_ask),
        cmocka_unit_test(test_what_is_purged_does_not_ask_any_more),
        cmocka_unit_test(test_a_huge_page_that_is_purged_whole_may_come_again),
        cmocka_unit_test(test_all_of_a_huge_page_is_purged),
        cmocka_unit_test(test_what_came_with_a_huge_page_is_new_once),
        cmocka_unit_test(test_none_ask_where_nothing_is_to_stay),
        cmocka_unit_test(test_huge_pages_that_are_free_are_purged_first),
    };
    return RUN_TESTS(tests);
}
