package main

import (
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	s := samples{5, 1, 4, 2, 3}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 3}, {0.99, 5}, {1, 5}} {
		if got := s.quantile(c.q); got != c.want {
			t.Errorf("quantile %v is %d, want %d", c.q, got, c.want)
		}
	}
	if got := (samples{}).median(); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
}

func TestTableShowsRatios(t *testing.T) {
	var b strings.Builder
	tb := table{}
	tb.add("launch", 90*time.Millisecond, "bare", 60*time.Millisecond, "1.6")
	tb.add("RSS", 0, "", 0, "")
	tb.print(&b)
	if !strings.Contains(b.String(), "1.50") || strings.Count(b.String(), "\n") != 4 {
		t.Errorf("table:\n%s", b.String())
	}
}
