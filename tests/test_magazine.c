/*
 * test_magazine.c: the free units that a heap keeps: which come back, how many stay, where the next
 * are looked for, and where they are after a fork.
 */
#include "testing.h"

#include "remote/owned.h"

static struct magazine m;

enum { MANY = 40 };
static char *unit[MANY];

static int set_up(void **state)
{
    (void)state;
    m = (struct magazine){.most = 8};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    magazine_bound(&m, 0);
    return m.count == 0 ? 0 : -1;
}

static char *take_one(void)
{
    struct units taken = segment_take(1, UNIT_SIZE);
    assert_int_equal(taken.units, 1);
    return segment_unit(taken.segment, taken.first);
}

static void return_one(char *p)
{
    segment_return(segment_of(p), segment_unit_of(p), 1, true);
}

static char *take_from_magazine(void)
{
    struct units taken = magazine_take(&m);
    char *p = segment_unit(taken.segment, taken.first);
    assert_int_equal(taken.units, 1);
    assert_int_equal(registry_word(p), UNIT_FREE);
    return p;
}

static void take_many(void)
{
    for (int i = 0; i < MANY; i++)
        unit[i] = take_one();
}

static void return_many(void)
{
    for (int i = 0; i < MANY; i++)
        return_one(unit[i]);
}

static long used(void)
{
    return segment_used_bytes() / (long)UNIT_SIZE;
}

static void test_the_last_one_comes_back_first(void **state)
{
    (void)state;
    take_many();
    for (int i = 0; i < 3; i++) {
        magazine_put(&m, unit[i]);
        assert_int_equal(registry_word(unit[i]), unit_word_run(UNIT_KEPT, 1));
    }
    for (int i = 2; i >= 0; i--)
        assert_ptr_equal(take_from_magazine(), unit[i]);
    assert_int_equal(m.count, 0);
    return_many();
}

/* The oldest go back, and are anybody's. */
static void test_they_are_few(void **state)
{
    (void)state;
    take_many();
    long before = used();
    for (int i = 0; i < MANY; i++) {
        magazine_put(&m, unit[i]);
        assert_in_range(m.count, 1, 8);
        assert_int_equal(used(), before - (i + 1) + (long)m.count);
    }
    assert_ptr_equal(m.unit[m.count - 1], unit[MANY - 1]);
    magazine_bound(&m, 2);
    assert_int_equal(m.count, 2);
    assert_ptr_equal(m.unit[0], unit[MANY - 2]);
    assert_int_equal(used(), before - MANY + 2);
    magazine_bound(&m, 1000);
    assert_int_equal(m.most, MAGAZINE_MOST);
}

/* Where there are some with memory in them. */
static void test_several_are_taken_at_once(void **state)
{
    (void)state;
    take_many();
    return_many();
    long before = used();
    char *p = take_from_magazine();
    assert_int_equal(m.count, m.most / 2);
    assert_int_equal(used(), before + 1 + (long)m.count);
    return_one(p);
}

static void test_who_keeps_none_takes_one(void **state)
{
    (void)state;
    take_many();
    return_many();
    m.most = 0;
    long before = used();
    char *p = take_from_magazine();
    assert_int_equal(m.count, 0);
    assert_int_equal(used(), before + 1);
    magazine_return(&m, p, true);
    assert_int_equal(used(), before);
}

/* And not the lowest: that another has used. */
static void test_where_some_were_returned_is_looked_first(void **state)
{
    (void)state;
    static char *all[3 * UNITS_PER_SEGMENT];
    for (unsigned i = 0; i < 3 * UNITS_PER_SEGMENT; i++)
        all[i] = take_one();
    unsigned last = 3 * UNITS_PER_SEGMENT - 1, other = 0;
    while (segment_of(all[other]) == segment_of(all[last]))
        other++;
    magazine_return(&m, all[last], true);
    return_one(all[other]);
    assert_ptr_equal(take_from_magazine(), all[last]);
    assert_int_equal(m.count, 0);
    assert_ptr_equal(take_from_magazine(), all[other]);
    for (unsigned i = 0; i < 3 * UNITS_PER_SEGMENT; i++)
        return_one(all[i]);
}

/* Its first segment may be nobody's by now. */
static void test_a_segment_that_is_gone_has_none(void **state)
{
    (void)state;
    struct units whole = segment_take(UNITS_PER_SEGMENT, UNIT_SIZE);
    char *p = segment_unit(whole.segment, 0);
    segment_return(whole.segment, 1, UNITS_PER_SEGMENT - 1, true);
    magazine_return(&m, p, true);
    segment_purge(0);
    segment_drop_empty();
    assert_int_equal(segment_take_dirty(whole.segment, 1), 0);
    return_one(take_from_magazine());
}

/* A thread vanished while it put one in, took one out, or moved one up. */
static void test_what_was_on_its_way_is_taken_back(void **state)
{
    (void)state;
    take_many();
    for (int i = 0; i < 5; i++)
        magazine_put(&m, unit[i]);
    registry_set_word(unit[0], UNIT_FREE);
    registry_set_word(unit[3], UNIT_FREE);
    m.unit[5] = unit[4];
    m.count = 6;
    magazine_mend(&m);
    assert_int_equal(m.count, 3);
    long before = used();
    for (int i = 5; i < MANY; i++)
        registry_set_word(unit[i],
                          unit_word_run(UNIT_KEPT, 1)); /* as those of others, which are not */
    segment_take_back();
    assert_int_equal(used(), before - 2);
    assert_ptr_equal(take_from_magazine(), unit[4]);
    assert_ptr_equal(take_from_magazine(), unit[2]);
    assert_ptr_equal(take_from_magazine(), unit[1]);
    assert_int_equal(m.count, 0);
    for (int i = 1; i < MANY; i++)
        if (i != 3) {
            registry_set_word(unit[i], UNIT_FREE);
            return_one(unit[i]);
        }
}

static void test_the_bound_is_a_part_of_what_is_in_use(void **state)
{
    (void)state;
    static struct owned o;
    enum { PURGE_LIMIT = 128 };
    owned_init(&o, unit_owner(1));
    take_many();
    owned_look_around(&o);
    assert_in_range(o.magazine.most, MANY / 16, MANY / 16 + 1);
    for (uint32_t i = 0; i < o.magazine.most; i++)
        magazine_put(&o.magazine, unit[i]);
    long before = used();
    assert_int_equal(owned_units(&o), o.magazine.most);
    assert_int_equal(owned_give_up(&o, 0, 0), o.magazine.most);
    assert_int_equal(used(), before - (long)o.magazine.most);
    segment_set_purge_limit(0);
    uint32_t most = o.magazine.most;
    owned_look_around(&o);
    assert_int_equal(o.magazine.most, 0);
    segment_set_purge_limit(PURGE_LIMIT);
    for (uint32_t i = most; i < MANY; i++)
        return_one(unit[i]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_last_one_comes_back_first),
        TEST(test_they_are_few),
        TEST(test_several_are_taken_at_once),
        TEST(test_who_keeps_none_takes_one),
        TEST(test_where_some_were_returned_is_looked_first),
        TEST(test_a_segment_that_is_gone_has_none),
        TEST(test_what_was_on_its_way_is_taken_back),
        TEST(test_the_bound_is_a_part_of_what_is_in_use),
    };
    return RUN_TESTS(tests);
}
