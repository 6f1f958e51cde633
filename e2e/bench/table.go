package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// samples are measurements of one thing.
type samples []time.Duration

// quantile is the q-th quantile (0 to 1), by the nearest rank.
func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Clone(s)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

// row is one line of the table.
type row struct {
	what string
	ours time.Duration
	// base is what it is compared with, by name; ratio is ours to base.
	baseline string
	base     time.Duration
	goal     string
}

type table struct{ rows []row }

func (t *table) add(what string, ours time.Duration, baseline string, base time.Duration, goal string) {
	t.rows = append(t.rows, row{what, ours, baseline, base, goal})
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "| what\t| Plimsoll\t| compared with\t| its figure\t| ratio\t| at most\t|")
	fmt.Fprintln(tw, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range t.rows {
		ratio := "-"
		if r.base > 0 {
			ratio = fmt.Sprintf("%.2f", float64(r.ours)/float64(r.base))
		}
		base := "-"
		if r.base > 0 {
			base = show(r.base)
		}
		fmt.Fprintf(tw, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.what, show(r.ours), r.baseline, base, ratio, r.goal)
	}
	tw.Flush()
}

func show(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
