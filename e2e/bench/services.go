package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// figures are one system's in the rounds of serviceRows.
type figures struct{ scale, replace, rollOne, rollAll samples }

// serviceRows interleaves rounds of both systems. It also answers the memory of
// our programs with the large service running.
func serviceRows(ctx context.Context, t *table, p *plim, dir string, archives []string, replicas, rounds int, withSwarm bool) (memory string, err error) {
	var ours, theirs figures
	var s *swarm
	if withSwarm {
		s, err = newSwarm(ctx, dir+"/swarm", archives...)
		if s != nil {
			defer func() { err = errors.Join(err, s.stop(context.WithoutCancel(ctx))) }()
		}
		if err != nil {
			return "", err
		}
	}
	for i := range rounds {
		say(fmt.Sprintf("round %d of %d", i+1, rounds))
		if memory, err = p.round(ctx, replicas, &ours); err != nil {
			return "", err
		}
		if s != nil {
			if err := s.round(ctx, replicas, &theirs); err != nil {
				return "", err
			}
		}
	}
	t.add(fmt.Sprintf("%d replicas, all RUNNING", replicas), ours.scale.median(), "Docker Swarm", theirs.scale.median(), "0.45")
	t.add("killed container to replacement RUNNING", ours.replace.median(), "Docker Swarm, restart delay 0", theirs.replace.median(), "0.5")
	t.add("rolling update of 10, one at a time", ours.rollOne.median(), "Docker Swarm", theirs.rollOne.median(), "0.25")
	t.add("rolling update of 10, all at once", ours.rollAll.median(), "Docker Swarm", theirs.rollAll.median(), "0.5")
	return memory, nil
}

func (p *plim) round(ctx context.Context, replicas int, f *figures) (memory string, err error) {
	d, err := p.create(ctx, "large", int32(replicas), 100, 200)
	if err != nil {
		return "", fmt.Errorf("service of %d: %w", replicas, err)
	}
	f.scale = append(f.scale, d)
	memory = fmt.Sprintf("with %d tasks: agent %.0f MiB, plimd %.0f MiB", replicas, rss(p.State().Hosts[0].Agent.Pid), rss(p.State().Plimd.Pid))
	if err := p.remove(ctx, "large"); err != nil {
		return "", err
	}
	if _, err := p.create(ctx, "one", 10, 100, 110); err != nil {
		return "", err
	}
	for range 3 {
		if d, err = p.replace(ctx, "one", 10); err != nil {
			return "", fmt.Errorf("replace: %w", err)
		}
		f.replace = append(f.replace, d)
	}
	if d, err = p.roll(ctx, "one", "bench:2", 10); err != nil {
		return "", fmt.Errorf("roll one at a time: %w", err)
	}
	f.rollOne = append(f.rollOne, d)
	if err := p.remove(ctx, "one"); err != nil {
		return "", err
	}
	if _, err := p.create(ctx, "all", 10, 0, 100); err != nil {
		return "", err
	}
	if d, err = p.roll(ctx, "all", "bench:2", 10); err != nil {
		return "", fmt.Errorf("roll all at once: %w", err)
	}
	f.rollAll = append(f.rollAll, d)
	return memory, p.remove(ctx, "all")
}

func (s *swarm) round(ctx context.Context, replicas int, f *figures) error {
	var d time.Duration
	var err error
	if d, err = s.create(ctx, "large", replicas, "stop-first", 1); err != nil {
		return err
	}
	f.scale = append(f.scale, d)
	if err := s.remove(ctx, "large"); err != nil {
		return err
	}
	if _, err := s.create(ctx, "one", 10, "stop-first", 1); err != nil {
		return err
	}
	for range 3 {
		if d, err = s.replace(ctx, "one", 10); err != nil {
			return err
		}
		f.replace = append(f.replace, d)
	}
	if d, err = s.roll(ctx, "one", 10); err != nil {
		return err
	}
	f.rollOne = append(f.rollOne, d)
	if err := s.remove(ctx, "one"); err != nil {
		return err
	}
	if _, err := s.create(ctx, "all", 10, "stop-first", 0); err != nil {
		return err
	}
	if d, err = s.roll(ctx, "all", 10); err != nil {
		return err
	}
	f.rollAll = append(f.rollAll, d)
	return s.remove(ctx, "all")
}
