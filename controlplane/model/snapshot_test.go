package model

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

var allKinds = []Kind{KindCluster, KindFamily, KindDefinition, KindService, KindServiceStatus, KindTask, KindTaskStatus,
	KindInstance, KindInstanceState, KindSession, KindLiveness, KindReplica, KindJoinToken, KindAuthority}

// someChange draws a change of few keys, so that records meet each other.
func someChange(t *rapid.T, revision int64) Change {
	// Tasks twice: they are what the figures are made of.
	kind := rapid.SampledFrom(slices.Concat(allKinds, []Kind{KindTask, KindTask, KindTaskStatus, KindInstance})).Draw(t, "kind")
	c := Change{Key: Key{Kind: kind, ID: rapid.SampledFrom([]string{"a", "b", "c", "aa"}).Draw(t, "id")}, Revision: revision}
	if !kind.Global() {
		c.Key.Cluster = rapid.SampledFrom([]string{"x", "xx"}).Draw(t, "cluster")
	}
	if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
		return c
	}
	c.Value = NewRecord(kind)
	switch v := c.Value.(type) {
	case *pb.TaskRecord:
		v.Cluster, v.Id = c.Key.Cluster, c.Key.ID
		v.Service = rapid.SampledFrom([]string{"", "web", "we"}).Draw(t, "service")
		v.Instance = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "instance")
		v.Resources = &pb.TaskResources{Cpu: int64(rapid.IntRange(0, 4).Draw(t, "cpu")), Memory: 7, Gpus: 1}
		for range rapid.IntRange(0, 2).Draw(t, "ports") {
			v.Resources.HostPorts = append(v.Resources.HostPorts, &pb.HostPort{
				Port:     int32(rapid.IntRange(80, 82).Draw(t, "port")),
				Protocol: rapid.SampledFrom([]pb.TransportProtocol{pb.TransportProtocol_TRANSPORT_PROTOCOL_TCP, pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP}).Draw(t, "protocol"),
			})
		}
		if rapid.IntRange(0, 4).Draw(t, "stopped") == 0 {
			v.StoppedAt = &timestamppb.Timestamp{Seconds: 5}
		}
	case *pb.TaskStatusRecord:
		v.LastStatus = rapid.SampledFrom([]string{"PENDING", "RUNNING", "STOPPED"}).Draw(t, "status")
	case *pb.ContainerInstanceStateRecord:
		v.Status = rapid.SampledFrom([]string{InstanceActive, InstanceDraining}).Draw(t, "state")
	case *pb.SessionRecord:
		v.Connected, v.Replica = rapid.Bool().Draw(t, "connected"), "a"
	}
	return c
}

// contents is all that a snapshot says, derived figures included.
func contents(s *Snapshot) map[string]any {
	all := map[string]any{"revision": s.Revision, "authority": s.Authority()}
	add := func(table, key string, row any) { all[table+" "+key] = row }
	collect(add, "clusters", s.clusters)
	collect(add, "families", s.families)
	collect(add, "definitions", s.definitions)
	collect(add, "replicas", s.replicas)
	collect(add, "join tokens", s.joinTokens)
	collect(add, "authority", s.authority)
	collect(add, "services", s.services)
	collect(add, "tasks", s.tasks)
	collect(add, "instances", s.instances)
	collect(add, "by service", s.tasksByService)
	collect(add, "by instance", s.tasksByInstance)
	collect(add, "unbound", s.unbound)
	return all
}

func collect[T any](add func(table, key string, row any), name string, t Table[T]) {
	for key, row := range t.All() {
		add(name, key, row)
	}
}

func differ(a, b map[string]any) string {
	return cmp.Diff(a, b, protocmp.Transform(), cmpopts.EquateEmpty())
}

// TestIncrementalEqualsRebuilt: however changes come, in ones or in batches,
// the snapshot is the one that its records make from scratch, and what it was
// made from stays as it was.
func TestIncrementalEqualsRebuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type kept struct {
			s    *Snapshot
			then map[string]any
		}
		var older []kept
		s := &Snapshot{}
		for step := range rapid.IntRange(1, 15).Draw(t, "steps") {
			older = append(older, kept{s, contents(s)})
			revision := int64(step + 1)
			changes := make([]Change, rapid.IntRange(1, 6).Draw(t, "changes"))
			for i := range changes {
				changes[i] = someChange(t, revision)
			}
			s = s.With(revision, changes)
			rebuilt := new(Snapshot).With(revision, slices.Collect(s.Records()))
			if d := differ(contents(rebuilt), contents(s)); d != "" {
				t.Fatalf("rebuilt (-), incremental (+):\n%s", d)
			}
			figures(t, s)
		}
		for _, k := range older {
			if d := differ(k.then, contents(k.s)); d != "" {
				t.Fatalf("the snapshot of revision %d changed:\n%s", k.s.Revision, d)
			}
		}
	})
}

// figures checks what is derived against a count over all tasks.
func figures(t *rapid.T, s *Snapshot) {
	used := map[string]Resources{}
	var unbound, ofWeb, onA []string
	for task := range s.Tasks("") {
		r := task.Record
		at := r.GetCluster() + "/" + r.GetId()
		if task.Holds() {
			key := r.GetCluster() + "/" + r.GetInstance()
			used[key] = used[key].add(r.GetResources(), 1)
		}
		if r.GetInstance() == "" && !task.Stopped() {
			unbound = append(unbound, at)
		}
		if r.GetService() == "web" && r.GetCluster() == "x" {
			ofWeb = append(ofWeb, at)
		}
		if r.GetInstance() == "a" && r.GetCluster() == "x" {
			onA = append(onA, at)
		}
	}
	for key, i := range s.instances.All() {
		if d := cmp.Diff(used[key], i.Used, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("used of %s, counted (-), kept (+):\n%s", key, d)
		}
		if !slices.IsSortedFunc(i.Used.Ports, ComparePorts) {
			t.Fatalf("ports of %s are not sorted: %v", key, i.Used.Ports)
		}
		delete(used, key)
	}
	if len(used) > 0 {
		t.Fatalf("no row for %v", used)
	}
	names := func(tasks []*Task) (all []string) {
		for _, t := range tasks {
			all = append(all, t.Record.GetCluster()+"/"+t.Record.GetId())
		}
		return all
	}
	for what, pair := range map[string][2][]string{
		"unbound":     {unbound, names(slices.Collect(s.Unbound()))},
		"of service":  {ofWeb, names(slices.Collect(s.TasksOfService("x", "web")))},
		"on instance": {onA, names(slices.Collect(s.TasksOfInstance("x", "a")))},
	} {
		if d := cmp.Diff(pair[0], pair[1], cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%s, counted (-), indexed (+):\n%s", what, d)
		}
	}
}

func TestPartsWithoutRecordsAreHidden(t *testing.T) {
	s := new(Snapshot).With(1, []Change{
		{Key: Key{KindTaskStatus, "c", "t"}, Value: &pb.TaskStatusRecord{LastStatus: "RUNNING"}, Revision: 1},
		{Key: Key{KindServiceStatus, "c", "s"}, Value: &pb.ServiceStatusRecord{}, Revision: 1},
		{Key: Key{KindSession, "c", "i"}, Value: &pb.SessionRecord{}, Revision: 1},
	})
	_, task := s.Task("c", "t")
	_, service := s.Service("c", "s")
	_, instance := s.Instance("c", "i")
	if task || service || instance || len(slices.Collect(s.Tasks(""))) != 0 {
		t.Fatal("a row without a record is shown")
	}
	if n := len(slices.Collect(s.OrphanStatuses())); n != 1 {
		t.Fatalf("%d orphans, want 1", n)
	}
	if n := len(slices.Collect(s.Records())); n != 3 {
		t.Fatalf("%d records, want 3", n)
	}
}

func TestConnectedNeedsTheReplica(t *testing.T) {
	base := []Change{
		{Key: Key{KindInstance, "c", "i"}, Value: &pb.ContainerInstanceRecord{}, Revision: 1},
		{Key: Key{KindSession, "c", "i"}, Value: &pb.SessionRecord{Replica: "r", Connected: true}, Revision: 1},
	}
	s := new(Snapshot).With(1, base)
	i, _ := s.Instance("c", "i")
	if s.Connected(i) {
		t.Fatal("connected to a replica that is not there")
	}
	s = s.With(2, []Change{{Key: Key{KindReplica, "", "r"}, Value: &pb.ReplicaRecord{Id: "r"}, Revision: 2}})
	if !s.Connected(i) {
		t.Fatal("not connected")
	}
}

// TestWithFromOneSnapshotAtOnce: hypothetical snapshots may be made
// concurrently, beside readers.
func TestWithFromOneSnapshotAtOnce(t *testing.T) {
	s := population(100)
	done := make(chan int)
	for range 4 {
		go func() {
			n := s
			for i := range 50 {
				n = s.With(2, []Change{{Key: Key{KindTask, "default", fmt.Sprintf("%032x", i)}, Revision: 2}})
			}
			done <- len(slices.Collect(n.Tasks("")))
		}()
	}
	for range 4 {
		if n := <-done; n != 99 {
			t.Errorf("%d tasks, want 99", n)
		}
	}
	if n := len(slices.Collect(s.Tasks(""))); n != 100 {
		t.Errorf("%d tasks, want 100", n)
	}
}

// population is a cluster of n running tasks on n/20 instances.
func population(n int) *Snapshot {
	var changes []Change
	for i := range n {
		id, host := fmt.Sprintf("%032x", i), fmt.Sprintf("%032x", i%max(1, n/20))
		changes = append(changes,
			Change{Key: Key{KindTask, "default", id}, Revision: 1, Value: &pb.TaskRecord{Cluster: "default", Id: id, Instance: host,
				Service: fmt.Sprint("svc", i%50), Resources: &pb.TaskResources{Cpu: 128, Memory: 256}, Task: &pb.Task{DesiredStatus: "RUNNING"}}},
			Change{Key: Key{KindTaskStatus, "default", id}, Revision: 1, Value: &pb.TaskStatusRecord{LastStatus: "RUNNING"}})
		if i < max(1, n/20) {
			changes = append(changes, Change{Key: Key{KindInstance, "default", host}, Revision: 1, Value: &pb.ContainerInstanceRecord{Cluster: "default", Id: host}})
		}
	}
	return new(Snapshot).With(1, changes)
}

var sizes = []int{1_000, 10_000, 100_000}

// BenchmarkWith: one operation is the snapshot that 100 changes make.
func BenchmarkWith(b *testing.B) {
	for _, n := range sizes {
		s := population(n)
		b.Run(fmt.Sprintf("statuses/tasks=%d", n), func(b *testing.B) {
			changes := make([]Change, 100)
			for i := range changes {
				changes[i] = Change{Key: Key{KindTaskStatus, "default", fmt.Sprintf("%032x", i*(n/100))}, Revision: 2, Value: &pb.TaskStatusRecord{LastStatus: "RUNNING", Version: 2}}
			}
			b.ReportAllocs()
			for b.Loop() {
				s.With(2, changes)
			}
		})
		b.Run(fmt.Sprintf("stops/tasks=%d", n), func(b *testing.B) {
			changes := make([]Change, 100)
			for i := range changes {
				changes[i] = Change{Key: Key{KindTaskStatus, "default", fmt.Sprintf("%032x", i*(n/100))}, Revision: 2, Value: &pb.TaskStatusRecord{LastStatus: "STOPPED"}}
			}
			b.ReportAllocs()
			for b.Loop() {
				s.With(2, changes)
			}
		})
	}
}

// BenchmarkLoad: one operation is a snapshot made from scratch.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		records := slices.Collect(population(n).Records())
		b.Run(fmt.Sprintf("tasks=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				new(Snapshot).With(1, records)
			}
		})
	}
}
