package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// page is how many records one read of loading answers.
const page = 2000

// load reads every record at one revision. If that revision is compacted away
// before the last page, it begins again at a newer one.
func (s *Store) load(ctx context.Context) (*model.Snapshot, error) {
	for {
		snap, err := s.loadOnce(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return snap, err
		}
		s.cfg.Logger.Info("loading begins again: its revision was compacted")
	}
}

func (s *Store) loadOnce(ctx context.Context) (*model.Snapshot, error) {
	from, end := model.Prefix, clientv3.GetPrefixRangeEnd(model.Prefix)
	var revision int64
	var changes []model.Change
	for {
		resp, err := s.cfg.Client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		if err != nil {
			return nil, fmt.Errorf("load the store from key %s: %w", from, err)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if c, ok := s.decode(kv); ok {
				changes = append(changes, c)
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return new(model.Snapshot).With(revision, changes), nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// decode is the record that a key and its value stand for. Keys of unknown
// kinds (a newer version's) are left out, as is what does not decode: one bad
// record must not keep the control plane from the others.
func (s *Store) decode(kv *mvccpb.KeyValue) (model.Change, bool) {
	key, ok := recordKey(kv.Key)
	if !ok {
		return model.Change{}, false
	}
	value := model.NewRecord(key.Kind)
	if err := proto.Unmarshal(kv.Value, value); err != nil {
		s.metrics.undecodable.Inc()
		s.cfg.Logger.Error("a record could not be decoded and is left out", "key", key.String(), "revision", kv.ModRevision, "err", err)
		return model.Change{}, false
	}
	return model.Change{Key: key, Value: value, Revision: kv.ModRevision}, true
}

// recordKey is the record's key; false if it is not one that is kept.
func recordKey(key []byte) (model.Key, bool) {
	k, err := model.ParseKey(string(key))
	return k, err == nil && model.NewRecord(k.Kind) != nil && k.Kind.Global() == (k.Cluster == "")
}
