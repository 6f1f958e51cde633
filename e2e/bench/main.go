package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plimsoll-project/plimsoll/e2e/sample"
)

func main() {
	launches := flag.Int("launches", 40, "sequential launches of each kind")
	replicas := flag.Int("replicas", 100, "tasks of the large service")
	rounds := flag.Int("rounds", 3, "rounds of each comparison with Swarm")
	withSwarm := flag.Bool("swarm", true, "measure Docker Swarm too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *launches, *replicas, *rounds, *withSwarm); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, launches, replicas, rounds int, withSwarm bool) (err error) {
	dir, err := os.MkdirTemp("/tmp", "plim-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	var archives []string
	for _, v := range []string{"1", "2"} {
		archive := filepath.Join(dir, "sample-"+v+".tar")
		if err := sample.Build(ctx, v, archive); err != nil {
			return err
		}
		archives = append(archives, archive)
	}
	p, err := newPlim(ctx, dir, bin, archives...)
	if p != nil {
		defer func() { err = errors.Join(err, p.Stop(context.WithoutCancel(ctx), false)) }()
	}
	if err != nil {
		return err
	}
	var t table
	say("launch and stop, sequential and 8 at a time, against bare containerd")
	agent, plimd := p.State().Hosts[0].Agent.Pid, p.State().Plimd.Pid
	memory := []string{fmt.Sprintf("idle: agent %.0f MiB, plimd %.0f MiB", rss(agent), rss(plimd))}
	if err := launchRows(ctx, &t, p, dir, archives[0], launches); err != nil {
		return err
	}
	say("services, against Docker Swarm")
	at100, err := serviceRows(ctx, &t, p, dir, archives, replicas, rounds, withSwarm)
	if err != nil {
		return err
	}
	fmt.Printf("%d cores, %s, Go %s, %s\n\n", runtime.NumCPU(), kernel(), strings.TrimPrefix(runtime.Version(), "go"), time.Now().Format(time.DateOnly))
	t.print(os.Stdout)
	fmt.Println()
	for _, m := range append(memory, at100) {
		fmt.Println("resident memory,", m)
	}
	return nil
}

func say(s string) { fmt.Fprintln(os.Stderr, "bench:", s) }

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(b))
}

// launchRows interleaves our launch with the bare ones.
func launchRows(ctx context.Context, t *table, p *plim, dir, archive string, n int) error {
	r, err := newRaw(ctx, filepath.Join(p.State().DataDir, "hosts", p.State().Hosts[0].Name, "containerd.sock"), archive, dir)
	if err != nil {
		return err
	}
	var ours, bare, cni struct{ launch, remove samples }
	kinds := []struct {
		into *struct{ launch, remove samples }
		one  func(id string, i int) (cycle, error)
	}{
		{&ours, func(string, int) (cycle, error) { return p.launch(ctx) }},
		{&bare, func(id string, _ int) (cycle, error) { return r.run(ctx, id, 0) }},
		{&cni, func(id string, i int) (cycle, error) { return r.run(ctx, id, 20000+i) }},
	}
	// The first of each kind warms caches up and is not counted. The order
	// rotates: each kind follows each other one, whose namespaces and cgroups the
	// kernel may still be taking down.
	for i := range n + 1 {
		for j := range kinds {
			k := (i + j) % len(kinds)
			if i%2 == 1 { // and turns round
				k = (i + len(kinds) - j) % len(kinds)
			}
			kind := kinds[k]
			c, err := kind.one(fmt.Sprintf("s-%d-%d", i, k), i)
			if err != nil {
				return err
			}
			if i > 0 {
				kind.into.launch, kind.into.remove = append(kind.into.launch, c.launch), append(kind.into.remove, c.remove)
			}
		}
	}
	t.add("launch, p50", ours.launch.median(), "bare containerd, no network", bare.launch.median(), "1.6")
	t.add("launch, p50", ours.launch.median(), "containerd + CNI plugins", cni.launch.median(), "0.9")
	t.add("launch, p99", ours.launch.quantile(0.99), "bare containerd, no network", bare.launch.quantile(0.99), "2.5")
	t.add("stop until released, p50", ours.remove.median(), "bare containerd delete", bare.remove.median(), "2")
	t.add("stop until released, p50", ours.remove.median(), "containerd + CNI plugins", cni.remove.median(), "")
	return parallelRows(ctx, t, n, kinds[0].one, kinds[1].one, kinds[2].one)
}

// parallelRows launches 8 at a time.
func parallelRows(ctx context.Context, t *table, n int, ones ...func(id string, i int) (cycle, error)) error {
	launch := make([]samples, len(ones))
	for round := range max(1, n/8) {
		for k, one := range ones {
			results := make([]cycle, 8)
			g, _ := errgroup.WithContext(ctx)
			for i := range results {
				g.Go(func() (err error) {
					results[i], err = one(fmt.Sprintf("p-%d-%d-%d", round, k, i), 1000+round*8+i)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			for _, c := range results {
				launch[k] = append(launch[k], c.launch)
			}
		}
	}
	t.add("launch 8 at once, p50", launch[0].median(), "bare containerd, no network", launch[1].median(), "")
	t.add("launch 8 at once, p50", launch[0].median(), "containerd + CNI plugins", launch[2].median(), "")
	t.add("launch 8 at once, p99", launch[0].quantile(0.99), "bare containerd, no network", launch[1].quantile(0.99), "")
	return nil
}
