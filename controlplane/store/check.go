package store

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// Check says what is wrong with a batch whatever the store holds: an unknown
// kind, a key that would not parse back, a record of another kind's type, the
// same key twice. Its errors are ErrInvalid. Implementations call it first.
func Check(batch model.Batch) error {
	var seen map[model.Key]bool
	if len(batch) > 1 {
		seen = make(map[model.Key]bool, len(batch))
	}
	for _, w := range batch {
		empty := model.NewRecord(w.Key.Kind)
		switch {
		case empty == nil:
			return fmt.Errorf("write %s: no kind %q: %w", w.Key, w.Key.Kind, ErrInvalid)
		case w.Key.ID == "" || w.Key.Kind.Global() != (w.Key.Cluster == "") || w.Key.Cluster == "-" || strings.Contains(w.Key.Cluster, "/"):
			return fmt.Errorf("write %s: not a record's key: %w", w.Key, ErrInvalid)
		case w.Value != nil && w.Value.ProtoReflect().Descriptor() != empty.ProtoReflect().Descriptor():
			return fmt.Errorf("write %s: a %s is no %s: %w", w.Key, name(w.Value), name(empty), ErrInvalid)
		case w.Value != nil && !w.Value.ProtoReflect().IsValid():
			return fmt.Errorf("write %s: the value is a nil %s: %w", w.Key, name(empty), ErrInvalid)
		case w.If < model.AnyRevision:
			return fmt.Errorf("write %s: expected revision %d: %w", w.Key, w.If, ErrInvalid)
		case seen[w.Key]:
			return fmt.Errorf("write %s: twice in one batch: %w", w.Key, ErrInvalid)
		}
		if seen != nil {
			seen[w.Key] = true
		}
	}
	return nil
}

func name(m proto.Message) string { return string(m.ProtoReflect().Descriptor().Name()) }
