/*
 * unit_word.h: the word that the registry has for each 64 KiB unit: what the unit is, whose, and to
 * which bin its blocks are freed.
 *
 *     0            foreign: not hakmem's; what a fresh table says
 *     bit 63 set   free, a run, or a whale: the constants below; bits 8 to 15 say how many units a run has
 *     else         a slab, and minus 1:
 *                    bits  0 to 15   the offset of its class's bin in any heap
 *                    bits 16 to 59   its owner: a heap's number and the complement of that; 0: nobody
 *                    bit  60         set
 *
 * All owners have as many bits set, so none's bits are part of another's. "Is it mine, or
 * nobody's?" is then one question: are all bits that are set among mine? (Codes of constant weight
 * are Sperner families, as in the theory of subsets.) A program frees blocks of its own slabs and
 * of nobody's in any order, so two questions were two branches, one of them mispredicted; and the
 * bin's place need not wait for the answer. Foreign, minus 1, has all bits set, and so is never
 * among anybody's.
 *
 * SYNCHRONIZATION: pure functions.
 */
#ifndef HAK_UNIT_WORD_H
#define HAK_UNIT_WORD_H

#include "size_class.h"

#define UNIT_FOREIGN ((uintptr_t)0)

#define UNIT_OTHER ((uintptr_t)1 << 63)
#define UNIT_FREE  (UNIT_OTHER + 1) /* in a segment, nobody's: no block can be there */
#define UNIT_RUN   (UNIT_OTHER + 2) /* the first unit of an L2.5 run */
#define UNIT_WHALE (UNIT_OTHER + 3) /* the first unit of a whale */
#define UNIT_KEPT                                                                                  \
    (UNIT_OTHER + 4) /* the first unit of a run that was freed, or a free unit, that a heap keeps */
#define UNIT_KINDS       (UNIT_OTHER | 0xff)
#define UNIT_UNITS_SHIFT 8

#define UNIT_SLAB        ((uintptr_t)1 << 60)
#define UNIT_OFFSET_BITS 16
#define UNIT_OFFSETS     (((uintptr_t)1 << UNIT_OFFSET_BITS) - 1)
#define UNIT_NUMBER_BITS 22 /* as many as Linux has thread ids */
#define UNIT_NUMBERS     ((uintptr_t)1 << UNIT_NUMBER_BITS)
#define UNIT_OWNERS      ((((uintptr_t)1 << 2 * UNIT_NUMBER_BITS) - 1) << UNIT_OFFSET_BITS)

static_assert(UNIT_OFFSET_BITS + 2 * UNIT_NUMBER_BITS == 60, "owners end where UNIT_SLAB is");
static_assert(SIZE_BIN_PLACE(SIZE_CLASS_COUNT) <= UNIT_OFFSETS, "any place fits");
static_assert(UNITS_PER_SEGMENT <= UINT8_MAX, "the units of a run fit");

/* number < UNIT_NUMBERS */
HAK_INLINE uintptr_t unit_owner(uintptr_t number)
{
    uintptr_t complement = ~number & (UNIT_NUMBERS - 1);
    return (number | complement << UNIT_NUMBER_BITS) << UNIT_OFFSET_BITS;
}

/* owner: of somebody. */
HAK_INLINE uintptr_t unit_owner_number(uintptr_t owner)
{
    return owner >> UNIT_OFFSET_BITS & (UNIT_NUMBERS - 1);
}

/* Of a slab. owner: what unit_owner says, or 0 for nobody. */
HAK_INLINE uintptr_t unit_word(uintptr_t owner, unsigned class_no)
{
    return UNIT_SLAB | owner | SIZE_BIN_PLACE((uintptr_t)class_no);
}

/* Of a run: UNIT_RUN or UNIT_KEPT. */
HAK_INLINE uintptr_t unit_word_run(uintptr_t kind, unsigned units)
{
    return kind | (uintptr_t)units << UNIT_UNITS_SHIFT;
}

/* One of the above; of a slab, none of them. */
HAK_INLINE uintptr_t unit_word_kind(uintptr_t word)
{
    return word & UNIT_KINDS;
}

HAK_INLINE unsigned unit_word_units(uintptr_t word)
{
    return (uint8_t)(word >> UNIT_UNITS_SHIFT);
}

HAK_INLINE size_t unit_word_run_bytes(uintptr_t word)
{
    return (size_t)unit_word_units(word) << UNIT_SHIFT;
}

HAK_INLINE bool unit_word_is_slab(uintptr_t word)
{
    return (word & UNIT_SLAB) != 0;
}

HAK_INLINE bool unit_word_has_owner(uintptr_t word)
{
    return (word & UNIT_OWNERS) != 0;
}

/* The bits that no word has, minus 1, of a slab of this owner or nobody. */
HAK_INLINE uintptr_t unit_strange_bits(uintptr_t owner)
{
    return ~(UNIT_SLAB | owner | UNIT_OFFSETS);
}

/* Whether it is a slab, and has no other owner, given those bits. */
HAK_INLINE bool unit_word_is_among(uintptr_t word, uintptr_t strange)
{
    return ((word - 1) & strange) == 0;
}

/* Of a slab: the place of its class's bin. */
HAK_INLINE size_t unit_word_place(uintptr_t word)
{
    return (uint16_t)word;
}

HAK_INLINE unsigned unit_word_class(uintptr_t word)
{
    return size_bin_class(unit_word_place(word));
}

#endif
