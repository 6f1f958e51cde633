package model

import (
	"google.golang.org/protobuf/proto"
)

// editor applies changes to a snapshot that is not published yet. It copies
// each tree once, before its first change.
type editor struct {
	s      *Snapshot
	copied map[Kind]bool
}

// The trees that are no kind's own; editor.copied knows them by these names.
const (
	treeByService  Kind = "tasks-by-service"
	treeByInstance Kind = "tasks-by-instance"
	treeUnbound    Kind = "unbound"
)

func (e *editor) apply(c Change) {
	s := e.s
	switch c.Key.Kind {
	case KindCluster:
		setRow(e, KindCluster, &s.clusters, c)
	case KindFamily:
		setRow(e, KindFamily, &s.families, c)
	case KindDefinition:
		setRow(e, KindDefinition, &s.definitions, c)
	case KindReplica:
		setRow(e, KindReplica, &s.replicas, c)
	case KindJoinToken:
		setRow(e, KindJoinToken, &s.joinTokens, c)
	case KindAuthority:
		setRow(e, KindAuthority, &s.authority, c)
	case KindService, KindServiceStatus:
		e.service(c)
	case KindTask, KindTaskStatus:
		e.task(c)
	case KindInstance, KindInstanceState, KindSession, KindLiveness:
		e.instance(c)
	}
}

func (e *editor) service(c Change) {
	key := c.Key.Cluster + "/" + c.Key.ID
	row := joined(e.s.services, key)
	if c.Key.Kind == KindService {
		setPart(&row.Record, &row.RecordRevision, c)
	} else {
		setPart(&row.Status, &row.StatusRevision, c)
	}
	put(e, KindService, &e.s.services, key, row, row.Record == nil && row.Status == nil)
}

func (e *editor) task(c Change) {
	key := c.Key.Cluster + "/" + c.Key.ID
	old, _ := e.s.tasks.Get(key)
	row := joined(e.s.tasks, key)
	if c.Key.Kind == KindTask {
		setPart(&row.Record, &row.RecordRevision, c)
	} else {
		setPart(&row.Status, &row.StatusRevision, c)
	}
	put(e, KindTask, &e.s.tasks, key, row, row.Record == nil && row.Status == nil)
	if old != nil && old.Record != nil {
		e.index(key, old, row, true)
	}
	if row.Record != nil {
		e.index(key, row, row, false)
	}
	if !sameUse(old, row) {
		e.use(old, -1)
		e.use(row, 1)
	}
}

// sameUse says whether both take the same of the same host, or nothing: most
// changes of a task are such, and leave its instance's row alone.
func sameUse(a, b *Task) bool {
	if a == nil || !a.Holds() || !b.Holds() {
		return (a == nil || !a.Holds()) && !b.Holds()
	}
	return a.Record == b.Record || a.Record.GetCluster() == b.Record.GetCluster() &&
		a.Record.GetInstance() == b.Record.GetInstance() && proto.Equal(a.Record.GetResources(), b.Record.GetResources())
}

// index puts the task into the indexes that old's fields name, or takes it out.
func (e *editor) index(key string, at, row *Task, remove bool) {
	r := at.Record
	if r.GetService() != "" {
		put(e, treeByService, &e.s.tasksByService, r.GetCluster()+"/"+r.GetService()+"/"+r.GetId(), row, remove)
	}
	if r.GetInstance() != "" {
		put(e, treeByInstance, &e.s.tasksByInstance, r.GetCluster()+"/"+r.GetInstance()+"/"+r.GetId(), row, remove)
	} else if remove || !row.Stopped() {
		put(e, treeUnbound, &e.s.unbound, key, row, remove)
	}
}

// use adds what the task holds to its instance, or takes it away.
func (e *editor) use(t *Task, sign int64) {
	if t == nil || !t.Holds() {
		return
	}
	key := t.Record.GetCluster() + "/" + t.Record.GetInstance()
	i := joined(e.s.instances, key)
	i.Used = i.Used.add(t.Record.GetResources(), sign)
	put(e, KindInstance, &e.s.instances, key, i, i.empty())
}

func (e *editor) instance(c Change) {
	key := c.Key.Cluster + "/" + c.Key.ID
	i := joined(e.s.instances, key)
	switch c.Key.Kind {
	case KindInstance:
		setPart(&i.Record, &i.RecordRevision, c)
	case KindInstanceState:
		setPart(&i.State, &i.StateRevision, c)
	case KindSession:
		setPart(&i.Session, &i.SessionRevision, c)
	case KindLiveness:
		setPart(&i.Liveness, &i.LivenessRevision, c)
	}
	put(e, KindInstance, &e.s.instances, key, i, i.empty())
}

// empty says whether the row stands for nothing. A row without a record stays
// while tasks are bound to it, to know what they take should it come back.
func (i *Instance) empty() bool {
	return i.Record == nil && i.State == nil && i.Session == nil && i.Liveness == nil && i.Used.Tasks == 0
}

// joined is a copy of the row at key, or a new one.
func joined[T any](t Table[*T], key string) *T {
	if row, ok := t.Get(key); ok {
		c := *row
		return &c
	}
	return new(T)
}

// setPart puts the change's record into a joined row's field.
func setPart[T proto.Message](value *T, revision *int64, c Change) {
	var zero T
	*value, *revision = zero, 0
	if c.Value != nil {
		*value, *revision = c.Value.(T), c.Revision
	}
}

func setRow[T proto.Message](e *editor, tree Kind, t *Table[Row[T]], c Change) {
	row := Row[T]{Revision: c.Revision}
	if c.Value != nil {
		row.Value = c.Value.(T)
	}
	put(e, tree, t, c.Key.ID, row, c.Value == nil)
}

func put[T any](e *editor, tree Kind, t *Table[T], key string, row T, remove bool) {
	if !e.copied[tree] {
		*t, e.copied[tree] = t.edit(), true
	}
	if remove {
		t.tree.Delete(key)
		return
	}
	t.tree.Set(key, row)
}
