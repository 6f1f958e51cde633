// Package journal is what the agent remembers over its own end: the tasks it was
// told to run and the newest status of each. It is written before the agent
// acts on an assignment, and before it removes what a status was read from.
//
// It owns one bbolt file and runs no goroutines.
package journal

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"google.golang.org/protobuf/proto"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

var (
	assignments = []byte("assignments")
	statuses    = []byte("statuses")
)

// Journal is safe for concurrent use. Concurrent writes share a transaction.
type Journal struct{ db *bbolt.DB }

// Entry is what is known of one task.
type Entry struct {
	Assignment *pb.Assignment
	// Status is nil before the first was noted.
	Status *pb.TaskStatusRecord
}

// Open opens or makes the journal. It fails if another agent has it open.
func Open(path string) (*Journal, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("journal %s is in use: another agent runs with this data directory", path)
	} else if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	db.MaxBatchDelay = time.Millisecond
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(assignments)
		_, e := tx.CreateBucketIfNotExists(statuses)
		return errors.Join(err, e)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	return &Journal{db}, nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.db.Close() }

// Assign notes tasks, all or none, on disk when it returns.
func (j *Journal) Assign(all ...*pb.Assignment) error {
	return putAll(j, assignments, (*pb.Assignment).GetTaskId, all)
}

// NoteAll notes the statuses of tasks, all or none, on disk when it returns.
func (j *Journal) NoteAll(all []*pb.TaskStatusRecord) error {
	return putAll(j, statuses, (*pb.TaskStatusRecord).GetTask, all)
}

func putAll[M proto.Message](j *Journal, bucket []byte, id func(M) string, all []M) error {
	if len(all) == 0 {
		return nil
	}
	err := j.db.Update(func(tx *bbolt.Tx) error {
		for _, m := range all {
			b, err := proto.Marshal(m)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucket).Put([]byte(id(m)), b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %s of %d tasks in the journal: %w", bucket, len(all), err)
	}
	return nil
}

// Note notes a task's status, on disk when it returns.
func (j *Journal) Note(s *pb.TaskStatusRecord) error { return j.put(statuses, s.GetTask(), s) }

func (j *Journal) put(bucket []byte, id string, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if err := j.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(id), b) }); err != nil {
		return fmt.Errorf("note task %s in the journal: %w", id, err)
	}
	return nil
}

// Forget removes a task.
func (j *Journal) Forget(id string) error {
	if err := j.db.Batch(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(assignments).Delete([]byte(id)), tx.Bucket(statuses).Delete([]byte(id)))
	}); err != nil {
		return fmt.Errorf("remove task %s from the journal: %w", id, err)
	}
	return nil
}

// Load answers every task. Records that cannot be read are left out: their
// containers are nobody's then and go.
func (j *Journal) Load() (map[string]Entry, error) {
	all := map[string]Entry{}
	err := j.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(assignments).ForEach(func(k, v []byte) error {
			a := &pb.Assignment{}
			if proto.Unmarshal(v, a) != nil {
				return nil
			}
			e := Entry{Assignment: a}
			if b := tx.Bucket(statuses).Get(k); b != nil {
				s := &pb.TaskStatusRecord{}
				if proto.Unmarshal(b, s) == nil {
					e.Status = s
				}
			}
			all[string(k)] = e
			return nil
		})
	})
	return all, err
}
