# The plots of docs/performance.md, from race-time.dat and race-memory.dat: gnuplot race.gnuplot
set terminal svg size 1100,480 font "sans,12" background "white"
set key outside right
set logscale y
set grid y
set xtics rotate by -45 font "sans,10"
set xrange [-0.7:25.7]
set style data points
do for [what in "time memory"] {
    set output "race-".what.".svg"
    set title what eq "time" ? "Time, relative to the best other allocator (lower is better)" : \
        "Peak resident memory, relative to the best other allocator, 3 MiB at least (lower is better)"
    set yrange [0.6:(what eq "time" ? 4 : 8)]
    set ytics (0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4, 6, 8)
    plot for [i = 3:10] "race-".what.".dat" using 0:i:xtic(1) pointtype 6 pointsize 0.6 title columnheader(i), \
         "race-".what.".dat" using 0:2 pointtype 7 pointsize 1.1 linecolor "black" title columnheader(2), \
         1 linecolor "gray" notitle
}
