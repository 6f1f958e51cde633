package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
	"github.com/plimsoll-project/plimsoll/controlplane/store/memory"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Config is what a run is made of.
type Config struct {
	Seed  uint64
	Hosts int
	// Steps is how many steps faults and users have; a step is a tenth of a
	// second.
	Steps int
	// Faults is how many of 1,000 steps have a fault, of each kind.
	Faults int
}

const (
	clusterName = "c"
	tick        = 100 * time.Millisecond
	// quiet is how long faults are over when services must have converged, and
	// how long they are then watched.
	quiet = 20 * time.Minute
)

// Sim is a run. New makes one.
type Sim struct {
	cfg     Config
	rng     *rand.Rand
	store   *memory.Store
	now     time.Time
	calm    bool // faults are over
	hosts   []*host
	leaders []*leader // the last one leads; the others do not know yet
	replica string
	serial  int
	checks  *checks
	// trace is what happened last, for the report of a failure.
	trace []string
}

// New makes a run. Nothing happens before Run.
func New(cfg Config) *Sim {
	s := &Sim{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), store: memory.New(),
		now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), checks: newChecks(),
	}
	return s
}

// Run runs it. Its error says what did not hold, and when.
func (s *Sim) Run() error {
	if err := s.run(); err != nil {
		return fmt.Errorf("seed %d, %v: %w\nlast:\n%s", s.cfg.Seed, s.now.Sub(s.start()), err, joined(s.trace))
	}
	return nil
}

func (s *Sim) start() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

func (s *Sim) run() error {
	if err := s.setUp(); err != nil {
		return err
	}
	s.store.Fault(func(model.Batch) error {
		switch {
		case s.calm || !s.chance(s.cfg.Faults):
			return nil
		case s.chance(500):
			return store.ErrConflict
		}
		return store.ErrUnavailable
	})
	for range s.cfg.Steps {
		s.misbehave()
		if err := s.users(); err != nil {
			return err
		}
		if err := s.step(); err != nil {
			return err
		}
	}
	if err := s.mend(); err != nil {
		return err
	}
	for range int(quiet / tick) {
		if err := s.step(); err != nil {
			return err
		}
		if s.idle() {
			break
		}
	}
	if err := s.converged(); err != nil {
		return err
	}
	return s.watch()
}

// step lets everybody do what is due, and checks.
func (s *Sim) step() error {
	s.now = s.now.Add(tick)
	if s.store.Held() > 0 && (s.calm || s.chance(200)) {
		s.store.Show(1 + s.rng.IntN(5))
	}
	for _, h := range s.hosts {
		if err := h.step(); err != nil {
			return err
		}
	}
	for _, l := range slices.Clone(s.leaders) {
		if err := l.step(); err != nil {
			return err
		}
	}
	return s.checks.truth(s.store.Truth())
}

// idle says whether nothing is to happen before the next retention.
func (s *Sim) idle() bool {
	return s.checks.unchanged(s.store.Truth().Revision) > 300 && s.converged() == nil
}

// watch skips through a quiet time, in which nothing may be written.
func (s *Sim) watch() error {
	before := s.store.Truth().Revision
	for range 30 {
		s.now = s.now.Add(time.Minute)
		if err := s.step(); err != nil {
			return err
		}
	}
	if after := s.store.Truth().Revision; after != before {
		return fmt.Errorf("a cluster that had converged was written to: revision %d, then %d", before, after)
	}
	return nil
}

// chance is true n times of 1,000.
func (s *Sim) chance(n int) bool { return s.rng.IntN(1000) < n }

// between is a time from a to b.
func (s *Sim) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rng.Int64N(int64(b-a)+1))
}

func (s *Sim) say(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%8.1fs ", s.now.Sub(s.start()).Seconds())+fmt.Sprintf(format, args...))
	if len(s.trace) > 60 {
		s.trace = s.trace[1:]
	}
}

// put writes a record as the writer of that record would.
func (s *Sim) put(kind model.Kind, cluster, id string, v proto.Message) error {
	return s.commit(model.Batch{write(kind, cluster, id, v)})
}

// write is a write of whatever is there.
func write(kind model.Kind, cluster, id string, v proto.Message) model.Write {
	return model.Write{Key: model.Key{Kind: kind, Cluster: cluster, ID: id}, Value: v, If: model.AnyRevision}
}

// commit commits what is no leader's. It is not subject to faults.
func (s *Sim) commit(batch model.Batch) error {
	calm := s.calm
	s.calm = true
	defer func() { s.calm = calm }()
	if _, err := s.store.Commit(context.Background(), batch); err != nil {
		return fmt.Errorf("write %s: %w", batch[0].Key, err)
	}
	return nil
}

func (s *Sim) setUp() error {
	var errs []error
	for i := 1; i <= definitions; i++ {
		errs = append(errs, s.put(model.KindDefinition, "", fmt.Sprintf("web:%d", i), definition(i)))
	}
	errs = append(errs, s.restart(), s.elect())
	for i := range s.cfg.Hosts {
		h := &host{sim: s, id: fmt.Sprintf("host%d", i), tasks: map[string]*local{}}
		s.hosts = append(s.hosts, h)
		errs = append(errs, s.put(model.KindInstance, clusterName, h.id, instance(h.id, i)), h.connect())
	}
	return errors.Join(errs...)
}

// restart replaces the one replica that holds all sessions.
func (s *Sim) restart() error {
	s.serial++
	old := s.replica
	s.replica = fmt.Sprintf("plimd%d", s.serial)
	if err := s.put(model.KindReplica, "", s.replica, &pb.ReplicaRecord{Id: s.replica}); err != nil {
		return err
	}
	for _, h := range s.hosts {
		if h.connected {
			h.disconnect(s.between(0, 5*time.Second))
		}
	}
	if old != "" {
		return s.put(model.KindReplica, "", old, nil)
	}
	return nil
}

func joined(lines []string) (all string) {
	for _, l := range lines {
		all += l + "\n"
	}
	return all
}
