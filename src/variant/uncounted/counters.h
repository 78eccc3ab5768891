/*
 * counters.h, all builds but the counting one: nothing is counted.
 */
#ifndef HAK_COUNTERS_H
#define HAK_COUNTERS_H

#define COUNT(counter)      ((void)0)
#define COUNT_N(counter, n) ((void)0)
#define COUNTERS_MERGE()    ((void)0)

#endif
