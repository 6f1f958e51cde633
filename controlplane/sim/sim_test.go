package sim

import (
	"flag"
	"fmt"
	"testing"
)

var (
	seeds = flag.Int("seeds", 12, "how many seeds each simulation runs with")
	first = flag.Uint64("seed", 1, "the first seed")
)

func TestWhatHoldsAlways(t *testing.T) {
	for _, cfg := range []Config{
		{Hosts: 4, Steps: 1500, Faults: 0},
		{Hosts: 4, Steps: 1500, Faults: 20},
		{Hosts: 3, Steps: 1500, Faults: 100},
	} {
		t.Run(fmt.Sprintf("hosts=%d,faults=%d", cfg.Hosts, cfg.Faults), func(t *testing.T) {
			t.Parallel()
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				cfg.Seed = seed
				if err := New(cfg).Run(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	run := func() string {
		s := New(Config{Seed: 3, Hosts: 3, Steps: 600, Faults: 50})
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.store.Truth().Revision, s.now, s.trace)
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}
