package etcd

import (
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
	"github.com/plimsoll-project/plimsoll/controlplane/store"
)

// request is one batch on its way to a transaction.
type request struct {
	writes     []write
	conditions int // writes that expect a revision
	fences     []store.Fence
	bytes      int
	done       chan result // capacity one
}

type write struct {
	key      string
	expected int64
	op       clientv3.Op
}

type result struct {
	revision int64
	err      error
}

// newRequest checks and encodes a batch, in its caller's goroutine.
func newRequest(batch model.Batch, fences []store.Fence) (*request, error) {
	if err := store.Check(batch); err != nil {
		return nil, err
	}
	r := &request{writes: make([]write, len(batch)), fences: fences, done: make(chan result, 1)}
	for i, w := range batch {
		key := w.Key.String()
		op := clientv3.OpDelete(key)
		if w.Value != nil {
			value, err := proto.Marshal(w.Value)
			if err != nil {
				return nil, fmt.Errorf("encode %s: %w: %w", key, err, store.ErrInvalid)
			}
			op = clientv3.OpPut(key, string(value))
			r.bytes += len(value)
		}
		r.bytes += 2 * len(key)
		if w.If != model.AnyRevision {
			r.conditions++
		}
		r.writes[i] = write{key: key, expected: w.If, op: op}
	}
	for _, f := range fences {
		if f.Created == 0 && f.Modified == 0 {
			return nil, fmt.Errorf("commit fenced by %s at no revision: %w", f.Key, store.ErrFenced)
		}
		r.bytes += len(f.Key)
	}
	return r, nil
}

// version is what a key's conditions look at: 0 and 0 if it is not there.
type version struct{ created, modified int64 }

// refusal is why the request's conditions do not hold where the keys are at
// the versions given; nil if they hold.
func (r *request) refusal(at map[string]version) error {
	for _, f := range r.fences {
		v := at[f.Key]
		if f.Modified != 0 && v.modified != f.Modified || f.Modified == 0 && v.created != f.Created {
			return fmt.Errorf("commit fenced by %s: %w", f.Key, store.ErrFenced)
		}
	}
	for _, w := range r.writes {
		if v := at[w.key]; w.expected != model.AnyRevision && v.modified != w.expected {
			return fmt.Errorf("write %s: at revision %d, not %d: %w", w.key, v.modified, w.expected, store.ErrConflict)
		}
	}
	return nil
}

// transaction is the group's conditions, the writes if they hold, and the reads
// that tell whose do not.
func transaction(group []*request) (conditions []clientv3.Cmp, writes, reads []clientv3.Op) {
	fences := map[store.Fence]bool{}
	asked := map[string]bool{}
	read := func(key string) {
		if !asked[key] {
			asked[key] = true
			reads = append(reads, clientv3.OpGet(key, clientv3.WithKeysOnly()))
		}
	}
	for _, r := range group {
		for _, f := range r.fences {
			if fences[f] {
				continue
			}
			fences[f] = true
			c := clientv3.Compare(clientv3.CreateRevision(f.Key), "=", f.Created)
			if f.Modified != 0 {
				c = clientv3.Compare(clientv3.ModRevision(f.Key), "=", f.Modified)
			}
			conditions = append(conditions, c)
			read(f.Key)
		}
		for _, w := range r.writes {
			writes = append(writes, w.op)
			if w.expected != model.AnyRevision {
				conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(w.key), "=", w.expected))
				read(w.key)
			}
		}
	}
	return conditions, writes, reads
}
