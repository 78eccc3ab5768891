/*
 * total.h: how far all that is in use, units and whales together, is below its peak of late.
 *
 * Each of the two keeps what its own use swings by (swing.h). A program that has small blocks by
 * turns with large ones swings both, and uses no more at any time: what one of them has given back
 * the other takes. So what a swing is worth is bounded by what all use has fallen by.
 *
 * The peak is that of two windows (window.h). It is looked for where something is returned: the
 * first return after a peak sees it, and no call writes what all threads share, unless it is a new
 * one.
 *
 * SYNCHRONIZATION: all is atomic and relaxed, and a window is ended by who changes its start; the
 * answer is an estimate.
 */
#ifndef HAK_TOTAL_H
#define HAK_TOTAL_H

#include "base.h"

/* Something is about to be returned. */
void total_note(void);
/* In bytes, both. */
long total_fallen(void);
long total_used(void);

#endif
